//! What a workload is: a row of the table of results, with its figures and their goals.
use ottla_compat_tests::node::Target;

use crate::session::Session;

/// One entry of [`crate::workloads::ALL`].
pub struct Workload {
    /// By which it is asked for on the command line.
    pub name: &'static str,
    /// By which it is asked for together with others, unless its name begins so.
    pub family: &'static str,
    /// What is done.
    pub title: &'static str,
    /// Who does it, and how, in a sentence or two.
    pub method: &'static str,
    /// Settings that are no defaults of either broker.
    pub settings: Settings,
    /// What Ottla is compared with.
    pub rival: Rival,
    /// Free disk space that it needs, GB.
    pub disk_gb: u64,
    /// What is measured.
    pub figures: &'static [Figure],
    /// Measures.
    pub run: fn(&mut Session),
}

/// Lines of server.properties and settings of topics that a row is about.
#[derive(Default)]
pub struct Settings {
    /// In Ottla's server.properties.
    pub ottla: &'static [&'static str],
    /// In the rival's.
    pub rival: &'static [&'static str],
    /// Of the rival's topics.
    pub rival_topic: &'static [(&'static str, &'static str)],
}

/// All defaults.
pub const DEFAULTS: Settings = Settings {
    ottla: &[],
    rival: &[],
    rival_topic: &[],
};

/// What stands beside Ottla.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Rival {
    /// Apache Kafka.
    Apache,
    /// Ottla itself with the rival's settings, named so.
    Itself(&'static str),
}

impl Rival {
    /// What runs there.
    pub fn target(self) -> Target {
        match self {
            Self::Apache => Target::Apache,
            Self::Itself(_) => Target::Ottla,
        }
    }

    /// What it is called in results.
    pub fn name(self) -> &'static str {
        match self {
            Self::Apache => "Apache Kafka",
            Self::Itself(name) => name,
        }
    }
}

/// One of the two that are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Ottla.
    Ottla,
    /// The [`Rival`].
    Rival,
}

impl Side {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::Ottla, Self::Rival];
}

/// One measured value of a workload.
pub struct Figure {
    /// With its unit.
    pub name: &'static str,
    /// Which values are good ones.
    pub better: Better,
    /// Of Ottla's value divided by the rival's: at most where lower is better, at least where higher is.
    pub goal: Option<f64>,
    /// Or Ottla's value divided by the machine's floor, at most.
    pub floor_goal: Option<f64>,
}

/// Which values are good ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    /// Costs.
    Lower,
    /// Throughput.
    Higher,
}

impl Figure {
    /// A cost, without a goal.
    pub const fn lower(name: &'static str) -> Self {
        Self {
            name,
            better: Better::Lower,
            goal: None,
            floor_goal: None,
        }
    }

    /// A throughput, without a goal.
    pub const fn higher(name: &'static str) -> Self {
        Self {
            better: Better::Higher,
            ..Self::lower(name)
        }
    }

    /// Gives it a goal.
    pub const fn goal(self, ratio: f64) -> Self {
        Self {
            goal: Some(ratio),
            ..self
        }
    }

    /// Is content with so many times the machine's floor, too.
    pub const fn or_floor(self, ratio: f64) -> Self {
        Self {
            floor_goal: Some(ratio),
            ..self
        }
    }
}
