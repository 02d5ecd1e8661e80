//! Members that tell that they are there.
use std::thread;
use std::time::{Duration, Instant};

use crate::clients::STACK_BYTES;
use crate::clients::classic::{Member, form};
use crate::clients::offsets::wait_coordinated;
use crate::ready;
use crate::session::Session;

const MEMBERS: usize = 1000;
const TIME: Duration = Duration::from_secs(5);

/// How often each member does, so that heartbeats are what the broker spends its time on.
const EVERY: Duration = Duration::from_millis(200);

/// Both brokers with a group each.
pub fn run(session: &mut Session) {
    let group = "heartbeats".to_owned();
    let mut groups = [Vec::new(), Vec::new()];
    session.side_by_side(1, |session, side, node, topic, counts| {
        let members = &mut groups[side as usize];
        if members.is_empty() {
            wait_coordinated(&mut ready::connect(node), topic, std::slice::from_ref(&group));
            *members = form(node, topic, &group, MEMBERS).0;
        }
        let work = session.measure(side, node, counts, || heartbeat_all(members));
        if counts {
            session.add(side, 0, work.cpu_each() * 1e6);
            session.add(side, 1, work.per_second());
        }
    });
}

/// All members heartbeat for a while, evenly in time; returns how often.
fn heartbeat_all(members: &mut [Member]) -> u64 {
    let begin = Instant::now();
    let offset = EVERY / members.len() as u32;
    thread::scope(|scope| {
        let threads: Vec<_> = members
            .iter_mut()
            .zip(0..)
            .map(|(member, place)| {
                let work = move || {
                    let mut due = begin + offset * place;
                    let mut count = 0;
                    while due < begin + TIME {
                        thread::sleep(due.saturating_duration_since(Instant::now()));
                        member.heartbeat();
                        due += EVERY;
                        count += 1;
                    }
                    count
                };
                let thread = thread::Builder::new().stack_size(STACK_BYTES);
                thread.spawn_scoped(scope, work).expect("thread")
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("member")).sum()
    })
}
