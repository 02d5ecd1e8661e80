//! Which targets log what, changed at run time (KIP-412): a level for all, and levels for targets and what lies in them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing::{Metadata, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::Layer;
use tracing_subscriber::reload;

/// Stands for all targets.
pub const ROOT: &str = "root";

/// The levels of a process. Clones share them.
#[derive(Clone)]
pub struct Levels {
    state: Arc<Mutex<State>>,
    reload: Arc<dyn Fn(Targets) + Send + Sync>,
}

struct State {
    default: LevelFilter,
    /// Targets with levels of their own.
    own: BTreeMap<String, LevelFilter>,
    /// Targets that are known: those told of, and those that have said something. What says nothing at the levels of now is not
    /// come by.
    seen: BTreeSet<&'static str>,
}

impl State {
    fn new(targets: &Targets, known: &[&'static str]) -> State {
        State {
            default: targets.default_level().unwrap_or(LevelFilter::OFF),
            own: targets
                .iter()
                .map(|(target, level)| (target.to_owned(), level))
                .collect(),
            seen: known.iter().copied().collect(),
        }
    }

    fn targets(&self) -> Targets {
        let own = self.own.iter().map(|(target, level)| (target.as_str(), *level));
        Targets::new().with_default(self.default).with_targets(own)
    }

    /// The level of the longest name that the target begins with, as [`Targets`] has it.
    fn level_of(&self, target: &str) -> LevelFilter {
        let above = self.own.iter().filter(|(name, _)| target.starts_with(name.as_str()));
        above
            .max_by_key(|(name, _)| name.len())
            .map_or(self.default, |(_, level)| *level)
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `a::b` and `a` of `a::b`.
fn with_those_above(target: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(target), |target| target.rsplit_once("::").map(|(above, _)| above))
}

impl Levels {
    /// The levels, and the layers that obey and that watch for targets. The watching one must be the outermost. Some targets
    /// are `known` before they say anything.
    pub(crate) fn new<S: Subscriber>(targets: Targets, known: &[&'static str]) -> (Levels, impl Layer<S>, Watch) {
        let state = Arc::new(Mutex::new(State::new(&targets, known)));
        let (layer, handle) = reload::Layer::new(targets);
        let reload = move |targets| {
            // Fails only once the subscriber is gone, and with it all logging.
            let _ = handle.reload(targets);
        };
        let levels = Levels {
            state: Arc::clone(&state),
            reload: Arc::new(reload),
        };
        (levels, layer, Watch(state))
    }

    /// All targets and their levels; [`ROOT`] stands for those that have none of their own and lie in none that has.
    pub fn all(&self) -> BTreeMap<String, LevelFilter> {
        let state = lock(&self.state);
        let seen = state.seen.iter().flat_map(|target| with_those_above(target));
        let names = state.own.keys().map(String::as_str).chain(seen);
        let named = names.map(|name| (name.to_owned(), state.level_of(name)));
        named.chain([(ROOT.to_owned(), state.default)]).collect()
    }

    /// Gives a target a level of its own, or takes it away.
    pub fn set(&self, target: &str, level: Option<LevelFilter>) {
        let targets = {
            let mut state = lock(&self.state);
            match level {
                Some(level) if target == ROOT => state.default = level,
                Some(level) => _ = state.own.insert(target.to_owned(), level),
                None => _ = state.own.remove(target),
            }
            state.targets()
        };
        // Not under the lock: every target is watched anew.
        (self.reload)(targets);
        tracing::warn!(logger = target, level = ?level, "the level of a logger changed");
    }
}

/// Takes note of targets when their lines of code are first come by.
pub(crate) struct Watch(Arc<Mutex<State>>);

impl<S: Subscriber> Layer<S> for Watch {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        lock(&self.0).seen.insert(metadata.target());
        Interest::always()
    }
}

#[cfg(test)]
mod tests {
    use tracing::{Level, enabled};
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[test]
    fn levels_change_while_the_process_runs() {
        let targets = "info,a=debug".parse().unwrap();
        let (levels, filter, watch) = Levels::new(targets, &["k"]);
        let subscriber = tracing_subscriber::registry().with(filter).with(watch);
        tracing::subscriber::with_default(subscriber, || {
            let sees = || {
                [
                    enabled!(target: "a", Level::DEBUG),
                    enabled!(target: "a::b", Level::DEBUG),
                    enabled!(target: "c", Level::DEBUG),
                    enabled!(target: "c", Level::INFO),
                ]
            };
            assert_eq!(sees(), [true, true, false, true]);
            levels.set("a::b", Some(LevelFilter::WARN));
            levels.set(ROOT, Some(LevelFilter::DEBUG));
            assert_eq!(sees(), [true, false, true, true]);
            let all = levels.all();
            let level = |name: &str| all.get(name).copied();
            assert_eq!(level("a"), Some(LevelFilter::DEBUG));
            assert_eq!(level("a::b"), Some(LevelFilter::WARN));
            assert_eq!(level("c"), Some(LevelFilter::DEBUG), "seen, and like all others");
            assert!(enabled!(target: "x::y::z", Level::INFO));
            assert_eq!(levels.all().keys().filter(|name| name.starts_with('x')).count(), 3);
            assert_eq!((level("d"), level("k")), (None, Some(LevelFilter::DEBUG)));
            levels.set("a::b", None);
            levels.set(ROOT, Some(LevelFilter::OFF));
            assert_eq!(sees(), [true, true, false, false]);
            assert_eq!(levels.all().get(ROOT), Some(&LevelFilter::OFF));
        });
    }
}
