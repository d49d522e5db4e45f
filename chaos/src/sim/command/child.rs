use super::one::{self, Report};
use crate::sim::entropy;
use clap::Args;
use std::io::Read as _;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

/// Real time after which a seed is taken to hang: this, and as long as it would take at real speed.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two looks at a process.
const LOOK: Duration = Duration::from_millis(5);

/// A seed to be run in a process of its own: a fresh one, of the same program.
#[derive(Clone, Debug)]
pub struct Child {
    /// The seed.
    pub seed: u64,
    /// Simulated time with faults.
    pub time: Duration,
    /// Whether what happened is printed.
    pub trace: bool,
    /// A deliberate bug, see [`mux_raft::mutant`]. Only in a program that has them.
    pub mutant: Option<&'static str>,
    /// It is called a failure whatever happens.
    pub doctored: bool,
}

/// What such a process is started with. For programs that start them: part of their arguments.
#[derive(Clone, Debug, Args)]
pub struct Here {
    /// One seed in this process
    #[arg(long, hide = true, requires = "here_seconds")]
    here: Option<u64>,
    #[arg(long, hide = true)]
    here_seconds: Option<u64>,
    #[arg(long, hide = true)]
    here_trace: bool,
    #[arg(long, hide = true)]
    here_doctor: bool,
}

impl Here {
    /// Runs the seed, if this process is to run one. Every program that starts such processes does this first.
    #[must_use]
    pub fn run(&self) -> Option<ExitCode> {
        if !entropy::is_in_force() {
            eprintln!("this program was built without its own source of randomness: runs would not repeat");
            return Some(ExitCode::FAILURE);
        }
        let (seed, seconds) = self.here.zip(self.here_seconds)?;
        Some(one::run(seed, Duration::from_secs(seconds), self.here_trace, self.here_doctor))
    }
}

impl Child {
    /// Runs it. An error says why there is no report, which is as bad as a violation.
    pub(crate) fn run(&self) -> Result<Report, String> {
        let (report, trace) = self.run_to_end(self.errors())?;
        if self.trace {
            println!("{trace}");
        }
        Ok(report)
    }

    /// Runs it again, for its trace.
    pub(crate) fn trace(&self) -> Result<String, String> {
        Self { trace: true, ..self.clone() }.run_to_end(self.errors()).map(|(_, trace)| trace)
    }

    /// Runs it again, for what it says while it comes to no report.
    pub(crate) fn last_words(&self, errors: std::fs::File) {
        // That there is no report is known.
        let _ = self.run_to_end(errors.into());
    }

    fn errors(&self) -> Stdio {
        let told = self.trace || std::env::var_os("RUST_LOG").is_some();
        if told { Stdio::inherit() } else { Stdio::null() }
    }

    /// The report, and what was printed before it.
    fn run_to_end(&self, errors: Stdio) -> Result<(Report, String), String> {
        let failed = |doing: &str, error: &dyn std::fmt::Display| format!("{doing}: {error}");
        let program = std::env::current_exe().map_err(|error| failed("finding this program", &error))?;
        let mut command = Command::new(program);
        let (seed, seconds) = (self.seed.to_string(), self.time.as_secs().to_string());
        command.args(["--here", &seed, "--here-seconds", &seconds]).env_remove(mux_raft::mutant::VARIABLE);
        if let Some(mutant) = self.mutant {
            command.env(mux_raft::mutant::VARIABLE, mutant);
        }
        if self.trace {
            command.arg("--here-trace");
        }
        if self.doctored {
            command.arg("--here-doctor");
        }
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .map_err(|error| failed("starting a process", &error))?;
        let Some(mut output) = child.stdout.take() else { return Err("a process without output".into()) };
        let reader = std::thread::spawn(move || {
            let mut text = String::new();
            output.read_to_string(&mut text).map(|_| text)
        });
        let deadline = Instant::now() + PATIENCE + self.time;
        let status = loop {
            match child.try_wait() {
                Ok(Some(status)) => break status,
                Ok(None) if Instant::now() < deadline => std::thread::sleep(LOOK),
                Ok(None) => {
                    let _ = child.kill();
                    let _ = child.wait();
                    return Err("it hangs".into());
                }
                Err(error) => return Err(failed("waiting for a process", &error)),
            }
        };
        let text = reader.join().map_err(|_| "reading a process's output panicked".to_owned())?;
        let text = text.map_err(|error| failed("reading a process's output", &error))?;
        let text = text.trim_end();
        let (before, last) = text.rsplit_once('\n').unwrap_or(("", text));
        let report = serde_json::from_str(last)
            .map_err(|error| format!("its process ended with {status} and no report ({error})"))?;
        Ok((report, before.to_owned()))
    }
}
