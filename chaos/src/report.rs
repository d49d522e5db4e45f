//! `REPORT.md`: what the tools found, added up from what their runs wrote.
//!
//! * `read`: the tools' JSON; `storage`: what the storage suite printed, and its section; `bugs`: the bugs found so far; `sums`:
//!   several runs of a tool as one; `superseded`: runs of earlier commits, which are only listed; `ancestry`: which commit is
//!   earlier; `page`: all of it as Markdown. Nothing on the page is made up here: every figure is in one of the files.

mod ancestry;
mod args;
mod bugs;
mod page;
mod read;
mod storage;
mod sums;
mod superseded;

#[cfg(test)]
mod tests;

pub use args::Arguments;
pub use read::ReadError;

use bugs::Bugs;
use clap::Parser as _;
use read::{Mutants, Nemesis, Simulate, Storage};
use std::{ffi::OsString, path::PathBuf, process::ExitCode};
use superseded::{NotLater, Superseded};

/// Everything that was read.
#[derive(Debug, Default)]
struct Found {
    nemesis: Vec<Nemesis>,
    simulate: Vec<Simulate>,
    storage: Vec<Storage>,
    mutants: Vec<Mutants>,
    superseded: Superseded,
    bugs: Option<Bugs>,
}

/// The page of what a run of the simulation wrote.
#[cfg(test)]
pub(crate) fn of_simulation(json: &str) -> String {
    let simulate = vec![read::parse(json).expect("the tools' own JSON is read")];
    page::page(&Found { simulate, ..Found::default() })
}

/// Writes the page; the first argument is the program's name.
#[must_use]
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    match write(&Arguments::parse_from(arguments)) {
        Ok(file) => {
            println!("{}", file.display());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("report: {error}");
            ExitCode::FAILURE
        }
    }
}

fn write(arguments: &Arguments) -> Result<PathBuf, ReadError> {
    fn all<T: serde::de::DeserializeOwned>(files: &[PathBuf]) -> Result<Vec<T>, ReadError> {
        files.iter().map(|file| read::read(file)).collect()
    }
    let simulate = all(&arguments.simulate)?;
    if let Some((one, other)) = sums::overlap(&simulate) {
        let (file, other) = (&arguments.simulate[one], arguments.simulate[other].display());
        return Err(ReadError::new(
            file,
            format!("it has seeds in common with {other}, and they count once"),
        ));
    }
    let superseded = Superseded::checked(all(&arguments.superseded)?, &simulate, ancestry::order);
    let superseded = superseded.map_err(|NotLater { old, new }| {
        let (other, commit) = (arguments.simulate[new].display(), &simulate[new].run.commit);
        let why = format!(
            "{other} has seeds of it, and its commit ({commit}) is not a later one: that does not supersede it. Make that run \
             again, of a commit that has this one among its ancestors"
        );
        ReadError::new(&arguments.superseded[old], why)
    })?;
    let found = Found {
        nemesis: all(&arguments.nemesis)?,
        simulate,
        storage: arguments.storage.iter().map(|file| storage::read(file)).collect::<Result<_, _>>()?,
        mutants: all(&arguments.mutants)?,
        superseded,
        bugs: Some(Bugs::read(&arguments.bugs)?),
    };
    std::fs::write(&arguments.out, page::page(&found))
        .map_err(|error| ReadError::new(&arguments.out, error))?;
    Ok(arguments.out.clone())
}
