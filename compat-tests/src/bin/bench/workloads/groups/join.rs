//! Members that join at once.
use crate::clients::offsets::wait_coordinated;
use crate::clients::{classic, consumer};
use crate::ready;
use crate::session::Session;

const MEMBERS: usize = 100;
const PARTITIONS_EACH: usize = 1;

/// Both brokers.
pub fn run(session: &mut Session) {
    let mut turn = 0;
    session.side_by_side(
        (MEMBERS * PARTITIONS_EACH) as i32,
        |session, side, node, topic, counts| {
            turn += 1;
            let groups = [format!("classic{turn}"), format!("consumer{turn}")];
            wait_coordinated(&mut ready::connect(node), topic, &groups);
            let (mut members, classic) = classic::form(node, topic, &groups[0], MEMBERS);
            classic::leave(&mut members);
            let consumer = consumer::form_and_leave(node, topic, &groups[1], MEMBERS, PARTITIONS_EACH);
            if counts {
                for (figure, time) in [classic, consumer].into_iter().enumerate() {
                    session.add(side, figure, time.as_secs_f64() * 1e3);
                }
            }
        },
    );
}
