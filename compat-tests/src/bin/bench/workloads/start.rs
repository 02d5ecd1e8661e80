//! Start-up.
use std::time::Instant;

use crate::ready;
use crate::session::Session;

/// Both brokers.
pub fn run(session: &mut Session) {
    session.one_by_one(|session, side, mut node| {
        let begun = Instant::now();
        let ms = || begun.elapsed().as_secs_f64() * 1e3;
        node.launch();
        session.add(side, 1, ms());
        let mut connection = ready::connect(&node);
        ready::create_topics(&mut connection, 1, 1);
        ready::wait_appends(&mut connection, 0, 0);
        session.add(side, 0, ms());
    });
}
