//! Programs that run beside a scenario: consumers that stay, and are stopped or killed.
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use regex::Regex;
use rustix::process::{Pid, Signal, kill_process};

use crate::scenario::wait_for;
use crate::{process, tools};

type Lines = Arc<Mutex<Vec<String>>>;

/// A running program; killed when dropped.
pub struct Running {
    child: Child,
    stdout: Lines,
    stderr: Lines,
}

impl Running {
    /// Starts a program.
    pub fn start(program: &str, args: &[&str]) -> Self {
        let mut command = process::tied(program);
        command
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = process::spawn(command);
        let stdout = collect(child.stdout.take().expect("stdout"));
        let stderr = collect(child.stderr.take().expect("stderr"));
        Self { child, stdout, stderr }
    }

    /// Starts a stock tool by its usual name, in a JVM of its own.
    pub fn java(tool: &str, args: &[&str]) -> Self {
        Self::class(tools::class_of(tool), args)
    }

    /// Starts a class of Kafka's jars.
    pub fn class(class: &str, args: &[&str]) -> Self {
        let jvm = ["-Xmx192m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"].map(String::from);
        let words = tools::java_command(&jvm, class);
        let mut words: Vec<_> = words.iter().map(String::as_str).collect();
        words.extend(args);
        Self::start(words[0], &words[1..])
    }

    /// Writes a line to its standard input.
    pub fn write_line(&mut self, line: &str) {
        let stdin = self.child.stdin.as_mut().expect("stdin");
        writeln!(stdin, "{line}").expect("write to a running program");
    }

    /// The lines it wrote to standard output so far.
    pub fn lines(&self) -> Vec<String> {
        snapshot(&self.stdout)
    }

    /// The lines it wrote to standard error so far.
    pub fn errors(&self) -> Vec<String> {
        snapshot(&self.stderr)
    }

    /// Waits until what it wrote to standard output satisfies a condition.
    pub fn wait_lines<T>(&self, what: &str, found: impl Fn(&[String]) -> Option<T>) -> T {
        wait_for(
            || found(&self.lines()),
            || format!("no {what} in {:#?}\n{:#?}", self.lines(), self.errors()),
        )
    }

    /// Waits for a line of either output and returns the last such one.
    pub fn wait_line(&self, pattern: &str) -> String {
        let pattern = Regex::new(pattern).expect("pattern");
        wait_for(
            || {
                let mut lines = self.lines();
                lines.extend(self.errors());
                lines.into_iter().rfind(|line| pattern.is_match(line))
            },
            || format!("no {pattern} in {:#?}\n{:#?}", self.lines(), self.errors()),
        )
    }

    /// Asks it to end and waits until it did; its exit code, -1 after a signal.
    pub fn stop(&mut self) -> i32 {
        self.signal(Signal::TERM);
        self.wait_exit()
    }

    /// Kills it.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.wait_exit();
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id() as i32).expect("process id");
        // It may have ended on its own.
        let _ = kill_process(pid, signal);
    }

    /// Waits until it ended; its exit code, -1 after a signal.
    pub fn wait_exit(&mut self) -> i32 {
        let child = &mut self.child;
        let status = wait_for(
            || child.try_wait().expect("wait for a program"),
            || "a program did not end".to_string(),
        );
        status.code().unwrap_or(-1)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("output:\n{}\n{}", self.lines().join("\n"), self.errors().join("\n"));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn collect(pipe: impl Read + Send + 'static) -> Lines {
    let lines = Lines::default();
    let collected = Arc::clone(&lines);
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            collected.lock().unwrap_or_else(PoisonError::into_inner).push(line);
        }
    });
    lines
}

fn snapshot(lines: &Lines) -> Vec<String> {
    lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
}
