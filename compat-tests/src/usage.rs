//! What a process uses, from /proc.
use std::fs;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

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
    let mb = |name| size_bytes(&status, name).expect("status") as f64 / 1e6;
    Memory {
        now_mb: mb("VmRSS:"),
        peak_mb: mb("VmHWM:"),
    }
}

/// Bytes that a process read from files so far, out of the page cache or not.
pub fn read_bytes(pid: u32) -> u64 {
    let io = fs::read_to_string(format!("/proc/{pid}/io")).expect("running process");
    let count = io.lines().find_map(|line| line.strip_prefix("rchar: "));
    count.expect("rchar").parse().expect("bytes")
}

/// Memory that may be had without swapping.
pub fn available_bytes() -> u64 {
    let memory = fs::read_to_string("/proc/meminfo").expect("/proc/meminfo");
    size_bytes(&memory, "MemAvailable:").expect("MemAvailable")
}

/// What a file of /proc tells in kB.
fn size_bytes(text: &str, name: &str) -> Option<u64> {
    let kib = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(kib.trim().trim_end_matches(" kB").parse::<u64>().ok()? * 1024)
}

/// What everything runs on, as a sentence.
pub fn machine() -> String {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name));
        let value = line
            .and_then(|line| line.split_once(':'))
            .map(|(_, value)| value.trim());
        value.unwrap_or("unknown").to_owned()
    };
    let model = field(&read("/proc/cpuinfo"), "model name");
    let memory_bytes = size_bytes(&read("/proc/meminfo"), "MemTotal:").unwrap_or_default();
    let load = read("/proc/loadavg");
    format!(
        "{model}, {} cores, {:.0} GiB of memory, Linux {}, data on {}; brokers and clients share it; load average \
         before the start {}.",
        cores(),
        memory_bytes as f64 / f64::from(1 << 30),
        read("/proc/sys/kernel/osrelease").trim(),
        file_system(),
        load.split_whitespace().next().unwrap_or_default()
    )
}

/// The type of the file system of temporary files: that of the longest mount point above them.
fn file_system() -> String {
    let dir = std::env::temp_dir();
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let mounts = mounts.lines().filter_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        Some((words.next()?, words.next()?))
    });
    let above = mounts.filter(|(point, _)| dir.starts_with(point));
    let nearest = above.max_by_key(|(point, _)| point.len());
    nearest.map_or("unknown", |(_, name)| name).to_owned()
}

/// The number of CPUs.
pub fn cores() -> usize {
    std::thread::available_parallelism().expect("number of cores").get()
}

/// CPU time of the calling thread so far.
pub fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// A load, done.
#[derive(Clone, Copy, Debug, Default)]
pub struct Work {
    /// Requests or bytes.
    pub amount: f64,
    /// How long it took.
    pub time: Duration,
    /// CPU time of the broker meanwhile.
    pub broker: Duration,
    /// CPU time of this process meanwhile, where all clients are.
    pub client: Duration,
}

impl Work {
    /// Amount a second.
    pub fn per_second(&self) -> f64 {
        self.amount / self.time.as_secs_f64()
    }

    /// CPU seconds of the broker for one of the amount.
    pub fn cpu_each(&self) -> f64 {
        self.broker.as_secs_f64() / self.amount
    }

    /// The part of the machine's CPU time that something used.
    pub fn share(&self, cpu: Duration) -> f64 {
        cpu.as_secs_f64() / self.time.as_secs_f64() / cores() as f64
    }
}

impl std::ops::AddAssign for Work {
    fn add_assign(&mut self, more: Self) {
        self.amount += more.amount;
        self.time += more.time;
        self.broker += more.broker;
        self.client += more.client;
    }
}

/// Measures a load, which returns its amount, on the broker with this process id.
pub fn measure(pid: u32, load: impl FnOnce() -> u64) -> Work {
    let now = || (cpu(pid), cpu(std::process::id()), Instant::now());
    let (broker, client, begun) = now();
    let amount = load();
    let time = begun.elapsed();
    Work {
        amount: amount as f64,
        time,
        broker: cpu(pid) - broker,
        client: cpu(std::process::id()) - client,
    }
}
