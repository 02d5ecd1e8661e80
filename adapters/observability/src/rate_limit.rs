//! Keeps one line of code from filling the log.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::callsite::Identifier;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

const WINDOW: Duration = Duration::from_secs(10);
const EVENTS_PER_WINDOW: u32 = 10;

/// Lets ten warnings or errors of a line of code through in ten seconds and counts the others. Clones share the counts.
#[derive(Clone, Default)]
pub(crate) struct RateLimit(Arc<Mutex<HashMap<Identifier, Window>>>);

struct Window {
    metadata: &'static Metadata<'static>,
    started: Instant,
    let_through: u32,
    left_out: u64,
}

impl RateLimit {
    fn permits(&self, metadata: &'static Metadata<'static>, now: Instant) -> bool {
        // Levels order by verbosity: everything above a warning in number is below it in weight.
        if *metadata.level() > Level::WARN {
            return true;
        }
        let mut windows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let window = windows.entry(metadata.callsite()).or_insert(Window {
            metadata,
            started: now,
            let_through: 0,
            left_out: 0,
        });
        if now.duration_since(window.started) >= WINDOW {
            window.started = now;
            window.let_through = 0;
        }
        let permitted = window.let_through < EVENTS_PER_WINDOW;
        if permitted {
            window.let_through += 1;
        } else {
            window.left_out += 1;
        }
        permitted
    }

    /// Where messages were left out since the last call, and how many.
    pub(crate) fn take_left_out(&self) -> Vec<(String, u64)> {
        let mut windows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        windows
            .values_mut()
            .filter(|window| window.left_out > 0)
            .map(|window| {
                let file = window.metadata.file().unwrap_or(window.metadata.target());
                let line = window.metadata.line().unwrap_or_default();
                (format!("{file}:{line}"), std::mem::take(&mut window.left_out))
            })
            .collect()
    }
}

impl<S: Subscriber> Layer<S> for RateLimit {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        self.permits(event.metadata(), Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use tracing_subscriber::filter::Targets;
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_flood_from_one_line_of_code_leaves_the_others_readable() {
        let limit = RateLimit::default();
        let lines = Lines::default();
        let writer = lines.clone();
        let layer = tracing_subscriber::fmt::layer().with_writer(move || writer.clone());
        let subscriber = tracing_subscriber::registry()
            .with("info".parse::<Targets>().unwrap())
            .with(layer)
            .with(limit.clone());
        tracing::subscriber::with_default(subscriber, || {
            for index in 0..25 {
                tracing::warn!(index, "flood");
                tracing::debug!("not even counted");
            }
            for _ in 0..25 {
                tracing::info!("lifecycle");
            }
            tracing::error!("other");
        });
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        let count = |word: &str| text.lines().filter(|line| line.contains(word)).count();
        assert_eq!((count("flood"), count("lifecycle"), count("other")), (10, 25, 1));
        let left_out = limit.take_left_out();
        assert_eq!(left_out.len(), 1);
        assert!(
            left_out[0].0.contains("rate_limit.rs:") && left_out[0].1 == 15,
            "{left_out:?}"
        );
        assert!(limit.take_left_out().is_empty());
    }

    #[test]
    fn a_new_window_lets_messages_through_again() {
        let limit = RateLimit::default();
        let start = Instant::now();
        let callsite = tracing::callsite! {
            name: "test", kind: tracing::metadata::Kind::EVENT, level: Level::WARN, fields:
        };
        let metadata = tracing::Callsite::metadata(callsite);
        let permitted = |now| (0..20).filter(|_| limit.permits(metadata, now)).count();
        assert_eq!(permitted(start), 10);
        assert_eq!(permitted(start + WINDOW / 2), 0);
        assert_eq!(permitted(start + WINDOW), 10);
    }
}
