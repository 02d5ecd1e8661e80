//! Whether the node is ready for clients.

use std::sync::{Mutex, PoisonError};

type Check = dyn Fn() -> Result<(), String> + Send + Sync;

/// What `/readyz` answers.
#[derive(Default)]
pub struct Health(Mutex<State>);

#[derive(Default)]
enum State {
    #[default]
    Starting,
    Checked(Box<Check>),
    Stopping,
}

impl Health {
    /// The node runs: from now on `check` decides, and says what is missing.
    pub fn started(&self, check: impl Fn() -> Result<(), String> + Send + Sync + 'static) {
        self.set(State::Checked(Box::new(check)));
    }

    /// The node stops: clients should go elsewhere.
    pub fn stopping(&self) {
        self.set(State::Stopping);
    }

    /// Ready, or what is missing.
    pub fn readiness(&self) -> Result<(), String> {
        match &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            State::Starting => Err("starting".to_owned()),
            State::Checked(check) => check(),
            State::Stopping => Err("stopping".to_owned()),
        }
    }

    fn set(&self, state: State) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }
}

#[cfg(test)]
mod tests {
    use super::Health;

    #[test]
    fn readiness_follows_the_life_of_a_node() {
        let health = Health::default();
        assert_eq!(health.readiness(), Err("starting".into()));
        health.started(|| Err("fenced".into()));
        assert_eq!(health.readiness(), Err("fenced".into()));
        health.started(|| Ok(()));
        assert_eq!(health.readiness(), Ok(()));
        health.stopping();
        assert_eq!(health.readiness(), Err("stopping".into()));
    }
}
