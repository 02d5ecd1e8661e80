//! Child processes that cannot outlive the test program.
use std::io;
use std::process::{Child, Command};
use std::sync::LazyLock;
use std::sync::mpsc::{Sender, channel};

type Job = (Command, Sender<io::Result<Child>>);

/// The kernel ends a child when the thread that started it ends, so all are started by one that never does.
static SPAWNER: LazyLock<Sender<Job>> = LazyLock::new(|| {
    let (sender, jobs) = channel::<Job>();
    std::thread::spawn(move || {
        for (mut command, reply) in jobs {
            let _ = reply.send(command.spawn());
        }
    });
    sender
});

/// A command that is killed when this process ends, however it ends.
pub fn tied(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", program]);
    command
}

/// Starts a command made by [`tied`].
pub fn spawn(command: Command) -> Child {
    let (reply, child) = channel();
    SPAWNER.send((command, reply)).expect("spawner");
    child.recv().expect("spawner").expect("setpriv (Debian: util-linux)")
}
