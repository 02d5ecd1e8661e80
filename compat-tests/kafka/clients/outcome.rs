//! How a case ended.
use std::fmt::Display;
use std::time::Duration;

/// What a case ends with when it does not pass.
#[derive(Clone, Debug)]
pub enum Stop {
    /// The family's library cannot do it.
    Unsupported(String),
    /// It went wrong; `code` is the part that must be the same on both brokers.
    Failed { code: String, what: String },
}

pub type Checked<T = ()> = Result<T, Stop>;

/// A failure that the matrix found itself.
pub fn failed(what: impl Display) -> Stop {
    Stop::Failed {
        code: String::new(),
        what: what.to_string(),
    }
}

/// Fails unless `condition` holds.
pub fn ensure(condition: bool, what: impl FnOnce() -> String) -> Checked {
    match condition {
        true => Ok(()),
        false => Err(failed(what())),
    }
}

/// One cell of a table.
#[derive(Clone, Debug)]
pub struct Cell {
    pub outcome: Checked,
    /// How the library behaved, where more than one way is right.
    pub note: String,
    pub took: Duration,
}

impl Cell {
    /// What must be the same on both brokers.
    pub fn essence(&self) -> String {
        match &self.outcome {
            Ok(()) => format!("passed {}", self.note),
            Err(Stop::Unsupported(_)) => "unsupported".to_string(),
            Err(Stop::Failed { code, .. }) => format!("failed {code}"),
        }
    }
}
