//! `ottla dev` and coordinators as processes of their own, which can be killed as a power switch or
//! an operator would.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::ports::free_ports;

/// How long a process may take to be ready, on a machine that does much else.
const READY_PATIENCE: Duration = Duration::from_secs(60);

/// The `ottla` binary: `$OTTLA_BINARY`, or the one of this build, brought up to date first.
pub fn ottla_binary() -> anyhow::Result<PathBuf> {
    if let Some(path) = std::env::var_os("OTTLA_BINARY") {
        return Ok(path.into());
    }
    built("ottla")
}

/// The `ottla-coordinator` binary: the one beside `$OTTLA_BINARY`, or the one of this build.
pub fn coordinator_binary() -> anyhow::Result<PathBuf> {
    if let Some(path) = std::env::var_os("OTTLA_BINARY") {
        return Ok(PathBuf::from(path).with_file_name("ottla-coordinator"));
    }
    built("ottla-coordinator")
}

/// A package's binary, brought up to date first.
fn built(package: &str) -> anyhow::Result<PathBuf> {
    // target/<profile>/deps/<this test>: the binary lies two folders up.
    let test = std::env::current_exe()?;
    let profile = test.parent().and_then(Path::parent).context("find the target folder")?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.args(["build", "--quiet", "--package", package]).current_dir(env!("CARGO_MANIFEST_DIR"));
    if profile.ends_with("release") {
        build.arg("--release");
    }
    ensure!(build.status().context("build")?.success(), "building {package} failed");
    Ok(profile.join(package))
}

/// One member of an ensemble. When it is dropped, the process is killed.
#[derive(Debug)]
pub struct MemberProcess {
    command: Command,
    child: Child,
}

impl MemberProcess {
    /// Runs `ottla-coordinator serve` with these arguments. It may not be ready yet.
    pub fn start(binary: &Path, arguments: &[&str]) -> anyhow::Result<Self> {
        let mut command = Command::new(binary);
        command.arg("serve").args(arguments).stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.spawn().with_context(|| format!("start {}", binary.display()))?;
        Ok(Self { command, child })
    }

    /// Kills it with SIGKILL.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Starts it again with the same arguments, after it ended.
    pub fn restart(&mut self) -> anyhow::Result<()> {
        ensure!(self.child.try_wait()?.is_some(), "it still runs");
        self.child = self.command.spawn()?;
        Ok(())
    }
}

impl Drop for MemberProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A running `ottla dev`. When it is dropped, the process is killed.
#[derive(Debug)]
pub struct DevProcess {
    binary: PathBuf,
    dir: PathBuf,
    flags: Vec<String>,
    child: Child,
    /// Where the coordinator listens.
    pub coordinator: String,
    /// Where the brokers listen, in the order of their numbers.
    pub brokers: Vec<String>,
}

impl DevProcess {
    /// Starts a cluster on free ports with its data in `dir`, and waits until it is ready.
    ///
    /// # Errors
    /// If it does not come up; what it said is on standard error.
    pub fn start(dir: &Path, flags: &[&str]) -> anyhow::Result<Self> {
        Self::start_by(&ottla_binary()?, dir, flags)
    }

    /// Likewise by another program, which is given what `ottla` would be.
    ///
    /// # Errors
    /// If it does not come up; what it said is on standard error.
    pub fn start_by(program: &Path, dir: &Path, flags: &[&str]) -> anyhow::Result<Self> {
        let flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
        // Enough for all brokers and members that flags may ask for.
        let ports = (free_ports(8), free_ports(8));
        Self::launch(program.to_owned(), dir.to_owned(), flags, ports)
    }

    fn launch(
        binary: PathBuf,
        dir: PathBuf,
        flags: Vec<String>,
        (port, coordinator_port): (u16, u16),
    ) -> anyhow::Result<Self> {
        let mut child = Command::new(&binary)
            .args(["dev", "--json", "--dir"])
            .arg(&dir)
            .args(["--port", &port.to_string()])
            .args(["--coordinator-port", &coordinator_port.to_string()])
            .args(&flags)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("start {}", binary.display()))?;
        let stdout = child.stdout.take().context("its output is piped")?;
        let (ready, wait) = mpsc::channel();
        std::thread::spawn(move || {
            let mut line = String::new();
            let read = BufReader::new(stdout).read_line(&mut line);
            let _ = ready.send(read.map(|_| line));
        });
        let mut started =
            Self { binary, dir, flags, child, coordinator: String::new(), brokers: Vec::new() };
        let line = wait.recv_timeout(READY_PATIENCE).context("wait until it is ready")??;
        let addresses: Value = serde_json::from_str(&line)
            .with_context(|| format!("ottla dev said {line:?} instead of where it listens"))?;
        let text = |value: &Value| value.as_str().map(str::to_owned).unwrap_or_default();
        started.coordinator = addresses.get("coordinator").map(text).unwrap_or_default();
        let brokers = addresses.get("brokers").and_then(Value::as_object);
        let brokers = brokers.context("it names its brokers")?;
        started.brokers = brokers.values().map(text).collect();
        Ok(started)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Kills it with SIGKILL: nothing is flushed, nothing is closed.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Asks it to stop with SIGTERM, and waits until it has.
    pub fn stop(&mut self) -> anyhow::Result<ExitStatus> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.context("it has a process id")?, Signal::TERM)?;
        Ok(self.child.wait()?)
    }

    /// Starts it again with the same data and on the same ports, after it ended.
    pub fn restart(&mut self) -> anyhow::Result<()> {
        if self.child.try_wait()?.is_none() {
            bail!("it still runs");
        }
        let port = |address: &str| -> anyhow::Result<u16> {
            let (_, port) = address.rsplit_once(':').context("an address has a port")?;
            Ok(port.parse()?)
        };
        let broker = self.brokers.first().context("there is a broker")?;
        let ports = (port(broker)?, port(&self.coordinator)?);
        *self = Self::launch(self.binary.clone(), self.dir.clone(), self.flags.clone(), ports)?;
        Ok(())
    }

    /// Runs an `ottla` command against this cluster with this standard input.
    pub fn ottla(&self, arguments: &[&str], input: &str) -> anyhow::Result<Output> {
        let mut command = Command::new(&self.binary);
        command.args(arguments);
        command.args(["--bootstrap-server", &self.brokers.join(",")]);
        command.args(["--coordinators", &self.coordinator]);
        run(command, input)
    }
}

impl Drop for DevProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a command to its end with this standard input.
pub fn run(mut command: Command, input: &str) -> anyhow::Result<Output> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let mut stdin = child.stdin.take().context("its input is piped")?;
    let input = input.to_owned();
    let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output()?;
    // Who does not read its input ends before we have written it.
    drop(writer.join());
    Ok(output)
}

/// What a command printed; an error with all that it said if it failed.
pub fn printed(output: &Output) -> anyhow::Result<String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    ensure!(
        output.status.success(),
        "{}: {}{}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    );
    Ok(text(&output.stdout))
}
