//! What a process uses, from /proc.
use std::fs;
use std::time::{Duration, Instant};

/// CPU time of a process so far: user and system, all threads, in steps of mostly 10 ms.
pub fn cpu(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("running process");
    // The name of the program, in parentheses, may hold anything.
    let fields = stat.rsplit_once(')').expect("stat").1.split_whitespace();
    // utime and stime.
    let ticks: u64 = fields
        .skip(11)
        .take(2)
        .map(|field| field.parse::<u64>().expect("ticks"))
        .sum();
    Duration::from_secs(ticks) / u32::try_from(rustix::param::clock_ticks_per_second()).expect("ticks a second")
}

/// Resident memory of a process.
pub struct Memory {
    /// Now.
    pub now_mb: f64,
    /// The most it ever was.
    pub peak_mb: f64,
}

/// Reads it.
pub fn memory(pid: u32) -> Memory {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("running process");
    let mb = |name| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("status");
        let kib: f64 = line.trim().trim_end_matches(" kB").parse().expect("kB");
        kib * 1024.0 / 1e6
    };
    Memory {
        now_mb: mb("VmRSS:"),
        peak_mb: mb("VmHWM:"),
    }
}

/// How many CPUs, and how many other threads want them.
pub fn machine() -> String {
    let cores = std::thread::available_parallelism().expect("number of cores");
    let load = fs::read_to_string("/proc/loadavg").expect("load average");
    let load = load.split_whitespace().next().unwrap_or_default();
    format!("{cores} cores, clients on the same machine; load average before the start {load}.")
}

/// How long something takes.
pub fn wall(work: impl FnOnce()) -> Duration {
    let begun = Instant::now();
    work();
    begun.elapsed()
}

/// A load, done.
pub struct Work {
    /// Requests or bytes.
    amount: f64,
    time: Duration,
    cpu: Duration,
}

impl Work {
    /// Amount a second.
    pub fn per_second(&self) -> f64 {
        self.amount / self.time.as_secs_f64()
    }

    /// CPU seconds of the broker for one of the amount.
    pub fn cpu_each(&self) -> f64 {
        self.cpu.as_secs_f64() / self.amount
    }
}

/// Measures a load, which returns its amount and how long it took.
pub fn measure(pid: u32, load: impl FnOnce() -> (u64, Duration)) -> Work {
    let before = cpu(pid);
    let (amount, time) = load();
    Work {
        amount: amount as f64,
        time,
        cpu: cpu(pid) - before,
    }
}
