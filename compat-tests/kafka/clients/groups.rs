//! Groups whose members come, leave and are killed while records are written: each family in each way that it knows to
//! share partitions, and all families in one group.
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
use std::sync::{Mutex, MutexGuard};
use std::thread::{self, Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

use ottla_compat_tests::ledger::Ledger;
use ottla_compat_tests::node::{Node, Options, Target};
use ottla_compat_tests::raw::Connection;
use ottla_compat_tests::records::Batch;
use ottla_compat_tests::requests::{self, Topic};
use ottla_compat_tests::transcript::now_ms;
use serde_json::{Value, json};

use super::driver::Driver;
use super::outcome::{Cell, Checked, Stop, ensure, failed};
use super::table::Table;
use super::{chosen, in_turn};
use crate::groups::offsets::committed;

/// Rows and assignors.
const WAYS: [(&str, &str); 5] = [
    ("group-range", "range"),
    ("group-roundrobin", "roundrobin"),
    ("group-sticky", "sticky"),
    ("group-cooperative-sticky", "cooperative-sticky"),
    ("group-consumer", "consumer"),
];

/// One group of all families that know the assignor which all clients have.
const MIXED: &str = "group-mixed";

/// How long the group takes to miss a member that was killed; and a member that does not get the processor in that time
/// is thrown out.
const SESSION_MS: usize = 6000;

/// How long a group may take to share its partitions again, and to process them.
const LIMIT: Duration = Duration::from_secs(60);

/// How long a driver waits for events.
const POLL_MS: usize = 200;

/// Between two records of a partition.
const PACE: Duration = Duration::from_millis(20);

/// Between two looks at the committed offsets.
const LOOK: Duration = Duration::from_millis(50);

/// A family as members of groups.
#[derive(Clone)]
pub struct Family {
    name: String,
    assignors: Vec<String>,
    commits_when_revoked: bool,
    /// Its members can share a group with those of other families.
    mixes: bool,
}

impl Family {
    /// By what its driver says of itself.
    pub fn new(name: &str, hello: &Value) -> Self {
        Self {
            name: name.to_string(),
            assignors: serde_json::from_value(hello["groups"].clone()).unwrap_or_default(),
            commits_when_revoked: hello["commits_when_revoked"] != false,
            mixes: hello["mixes"] != false,
        }
    }

    fn knows(&self, assignor: &str) -> bool {
        self.assignors.iter().any(|known| known == assignor)
    }

    fn note(&self) -> String {
        match self.commits_when_revoked {
            true => String::new(),
            false => "does not commit before partitions are taken".to_string(),
        }
    }
}

fn options() -> Options {
    let mut options = crate::groups::options();
    options
        .properties
        .push(format!("group.consumer.session.timeout.ms={SESSION_MS}"));
    options
}

/// The drivers that are members of no group now: some clients take long to start.
struct Drivers {
    address: SocketAddr,
    idle: Mutex<Vec<(String, Driver)>>,
}

impl Drivers {
    fn take(&self, family: &str) -> Driver {
        let mut idle = self.idle.lock().unwrap();
        match idle.iter().position(|(name, _)| name == family) {
            Some(place) => idle.swap_remove(place).1,
            None => {
                drop(idle);
                Driver::start(family, &self.address.to_string())
            }
        }
    }

    fn give_back(&self, family: &str, driver: Driver) {
        self.idle.lock().unwrap().push((family.to_string(), driver));
    }
}

/// Runs all cases on a node of their own.
pub fn run(target: Target, families: &[Family], table: &mut Table) {
    let node = Node::start(target, options());
    let drivers = Drivers {
        address: node.socket(),
        idle: Mutex::default(),
    };
    let ways = WAYS.iter().filter(|(row, _)| chosen(row));
    let mut cases: Vec<_> = ways
        .flat_map(|way| families.iter().map(move |family| (way, family)))
        .collect();
    let cells = in_turn(&mut cases, |((row, assignor), family)| {
        alone(&drivers, row, family, assignor)
    });
    for (((row, _), family), cell) in cases.iter().zip(cells) {
        table.put(row, &family.name, cell);
    }
    if chosen(MIXED) {
        mixed(&drivers, families, table);
    }
}

/// Three members of one family.
fn alone(drivers: &Drivers, row: &str, family: &Family, assignor: &str) -> Cell {
    let begin = Instant::now();
    let outcome = match family.knows(assignor) {
        true => Group::new(drivers, &format!("{}-{row}", family.name), assignor, 6).run(&[family; 3], true),
        false => Err(Stop::Unsupported(unknown(assignor))),
    };
    Cell {
        outcome,
        note: family.note(),
        took: begin.elapsed(),
    }
}

/// A member of each family, all at once.
fn mixed(drivers: &Drivers, families: &[Family], table: &mut Table) {
    let begin = Instant::now();
    let able: Vec<_> = families
        .iter()
        .filter(|family| family.mixes && family.knows("range"))
        .collect();
    let outcome = match able.len() {
        0..3 => Err(Stop::Unsupported("too few to mix".to_string())),
        count => Group::new(drivers, MIXED, "range", 2 * count).run(&able, false),
    };
    for family in families {
        let outcome = match (family.knows("range"), family.mixes) {
            (true, true) => outcome.clone(),
            (true, false) => Err(Stop::Unsupported("does not understand others' members".to_string())),
            (false, _) => Err(Stop::Unsupported(unknown("range"))),
        };
        let cell = Cell {
            outcome,
            note: String::new(),
            took: begin.elapsed(),
        };
        table.put(MIXED, &family.name, cell);
    }
}

fn unknown(assignor: &str) -> String {
    match assignor {
        "consumer" => "not the protocol of KIP-848".to_string(),
        assignor => format!("no assignor {assignor}"),
    }
}

struct Group<'a> {
    drivers: &'a Drivers,
    name: String,
    assignor: &'a str,
    topic: Topic,
    partitions: usize,
    ledger: Mutex<Ledger>,
    /// What went wrong first, in any thread.
    wrong: Mutex<Option<Stop>>,
}

enum Order {
    Leave,
    Kill,
}

struct Member<'s> {
    orders: Sender<Order>,
    thread: ScopedJoinHandle<'s, Option<()>>,
}

impl<'a> Group<'a> {
    fn new(drivers: &'a Drivers, name: &str, assignor: &'a str, partitions: usize) -> Self {
        let mut connection = Connection::open(drivers.address).expect("the broker listens");
        Self {
            drivers,
            name: name.to_string(),
            assignor,
            topic: requests::create_topic(&mut connection, name, partitions as i32, &[]),
            partitions,
            ledger: Mutex::new(Ledger::new(partitions)),
            wrong: Mutex::new(None),
        }
    }

    /// Lets members of these families come, one after the other or all at once, share, and go.
    fn run(&self, families: &[&Family], one_by_one: bool) -> Checked {
        thread::scope(|scope| {
            // Threads end when what they listen to is dropped.
            let (looking, end_of_looking) = channel();
            let watcher = self.beside(scope, move || self.watch(&end_of_looking));
            let (writing, end_of_writing) = channel();
            let writer = self.beside(scope, move || self.write(&end_of_writing));
            let members = self.come_and_go(scope, families, one_by_one)?;
            drop(writing);
            let ends = self.end_of(writer)?;
            self.wait("processed all", |ledger| ledger.is_done(&ends))?;
            for member in members {
                self.end(member, Order::Leave)?;
                // What its last owner did not commit, the next one processes again.
                self.wait("shared by who is left", |ledger| {
                    ledger.is_done(&ends) && (ledger.is_shared() || ledger.is_empty())
                })?;
            }
            drop(looking);
            self.end_of(watcher)?;
            self.ledger().check(&ends).map_err(failed)
        })
    }

    /// Returns the members that are there in the end.
    fn come_and_go<'s>(
        &'s self,
        scope: &'s Scope<'s, '_>,
        families: &[&'s Family],
        one_by_one: bool,
    ) -> Checked<Vec<Member<'s>>> {
        let mut members = Vec::new();
        for (place, family) in families.iter().enumerate() {
            members.push(self.join(scope, place, family));
            if one_by_one || place + 1 == families.len() {
                self.shared(&format!("when {} is there", place + 1))?;
            }
        }
        self.end(members.pop().ok_or_else(|| failed("no members"))?, Order::Leave)?;
        self.shared("after the last has left")?;
        self.end(members.remove(1), Order::Kill)?;
        self.shared("after the second was killed")?;
        members.push(self.join(scope, families.len(), families[1]));
        self.shared("when the second is back")?;
        Ok(members)
    }

    /// Waits until all members share all partitions, and go on with all of them.
    fn shared(&self, when: &str) -> Checked {
        self.wait(&format!("shared {when}"), Ledger::is_shared)?;
        let before = self.ledger().next();
        self.wait(&format!("going on {when}"), |ledger| {
            ledger.next().iter().zip(&before).all(|(next, before)| next > before)
        })
    }

    fn wait(&self, what: &str, condition: impl Fn(&Ledger) -> bool) -> Checked {
        let deadline = Instant::now() + LIMIT;
        while !condition(&self.ledger()) {
            self.sound()?;
            ensure(Instant::now() < deadline, || format!("not {what}: {}", self.ledger()))?;
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    fn join<'s>(&'s self, scope: &'s Scope<'s, '_>, place: usize, family: &'s Family) -> Member<'s> {
        let (orders, inbox) = channel();
        let name = format!("{} {place}", family.name);
        self.ledger().joined(&name, family.commits_when_revoked);
        let thread = self.beside(scope, move || self.live(&family.name, &name, &inbox));
        Member { orders, thread }
    }

    /// Lives as a member until it is told to go.
    fn live(&self, family: &str, name: &str, orders: &Receiver<Order>) -> Checked {
        let mut driver = self.drivers.take(family);
        let mut join = json!({
            "op": "join_group",
            "group": self.name,
            "topic": self.topic.name,
            "assignor": self.assignor,
        });
        if self.assignor != "consumer" {
            join["session_timeout_ms"] = SESSION_MS.into();
        }
        driver.ask(&join)?;
        let poll = json!({ "op": "poll_group", "timeout_ms": POLL_MS });
        loop {
            match orders.try_recv() {
                Err(TryRecvError::Empty) => self.book(name, &driver.ask(&poll)?)?,
                Ok(Order::Leave) => {
                    self.book(name, &driver.ask(&json!({ "op": "leave_group" }))?)?;
                    self.ledger().left(name);
                    self.drivers.give_back(family, driver);
                    return Ok(());
                }
                Ok(Order::Kill) => {
                    // In the middle of its work.
                    driver.tell(&poll)?;
                    driver.end().map_err(failed)?;
                    self.ledger().killed(name);
                    return Ok(());
                }
                Err(TryRecvError::Disconnected) => return Ok(()),
            }
        }
    }

    fn book(&self, name: &str, reply: &Value) -> Checked {
        let number = |value: &Value| {
            let number = value.as_u64().and_then(|number| usize::try_from(number).ok());
            number.ok_or_else(|| failed(format!("not a number in {reply}")))
        };
        let mut ledger = self.ledger();
        for event in reply["events"].as_array().into_iter().flatten() {
            let list = |what: &str| event[what].as_array();
            if let Some(partitions) = list("assigned") {
                for partition in partitions {
                    ledger.assigned(name, number(partition)?).map_err(failed)?;
                }
            } else if let Some(partitions) = list("revoked") {
                for partition in partitions {
                    ledger.revoked(name, number(partition)?).map_err(failed)?;
                }
            } else {
                let (partition, offset) = (number(&event["record"][0])?, number(&event["record"][1])?);
                ledger.processed(name, partition, offset as i64).map_err(failed)?;
            }
        }
        Ok(())
    }

    /// Writes to all partitions; returns their ends.
    fn write(&self, end: &Receiver<()>) -> Checked<Vec<i64>> {
        let mut connection = Connection::open(self.drivers.address).map_err(failed)?;
        let mut ends = vec![0; self.partitions];
        while end.recv_timeout(PACE) == Err(RecvTimeoutError::Timeout) {
            let batch = Batch::of(now_ms(), &["value"]).encode();
            let all: Vec<_> = (0..self.partitions as i32)
                .map(|partition| (partition, Some(batch.clone())))
                .collect();
            let answer = connection.call(9, &requests::produce(9, &self.topic, -1, &all));
            for written in &answer.map_err(failed)?.responses[0].partition_responses {
                let end = &mut ends[written.index as usize];
                ensure(written.error_code == 0 && written.base_offset == *end, || {
                    format!("written {written:?}, not at {end}")
                })?;
                *end += 1;
            }
        }
        Ok(ends)
    }

    /// Watches the committed offsets; looks once more when all is over.
    fn watch(&self, end: &Receiver<()>) -> Checked {
        let mut connection = Connection::open(self.drivers.address).map_err(failed)?;
        let all: Vec<_> = (0..self.partitions as i32).collect();
        let request = committed(8, &self.name, Some((&self.topic.name, &all)));
        loop {
            let over = end.recv_timeout(LOOK) != Err(RecvTimeoutError::Timeout);
            let answer = connection.call(8, &request).map_err(failed)?;
            let group = &answer.groups[0];
            match group.error_code {
                0 => {}
                // No coordinator yet, or one that loads.
                14..=16 if !over => continue,
                _ => return Err(failed(format!("no committed offsets: {group:?}"))),
            }
            for partition in &group.topics[0].partitions {
                ensure(partition.error_code == 0, || format!("committed {partition:?}"))?;
                self.ledger()
                    .committed(partition.partition_index as usize, partition.committed_offset)
                    .map_err(failed)?;
            }
            if over {
                return Ok(());
            }
        }
    }

    /// Does something in another thread.
    fn beside<'s, T: Send + 's>(
        &'s self,
        scope: &'s Scope<'s, '_>,
        work: impl FnOnce() -> Checked<T> + Send + 's,
    ) -> ScopedJoinHandle<'s, Option<T>> {
        scope.spawn(move || match work() {
            Ok(done) => Some(done),
            Err(stop) => {
                self.wrong().get_or_insert(stop);
                None
            }
        })
    }

    fn end(&self, member: Member, order: Order) -> Checked {
        // Who does not listen any more ended with an error.
        let _ = member.orders.send(order);
        self.end_of(member.thread)
    }

    fn end_of<T>(&self, thread: ScopedJoinHandle<Option<T>>) -> Checked<T> {
        let done = thread.join().map_err(|_| failed("a thread panicked"))?;
        self.sound()?;
        done.ok_or_else(|| failed("a thread ended early"))
    }

    fn sound(&self) -> Checked {
        self.wrong().clone().map_or(Ok(()), Err)
    }

    fn wrong(&self) -> MutexGuard<'_, Option<Stop>> {
        self.wrong.lock().unwrap()
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap()
    }
}
