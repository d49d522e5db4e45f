//! An older `muxd`, built from this repository's past.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// Builds it, in release, below the target directory, and says which commit it is of.
///
/// # Errors
/// There is no repository, no such commit, or it does not build.
pub(super) fn build() -> std::io::Result<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let root = std::fs::canonicalize(root)?;
    let git = |arguments: &[&str]| output(Command::new("git").arg("-C").arg(&root).args(arguments));
    let tag = git(&["describe", "--tags", "--abbrev=0"]);
    let revision = tag.map_or_else(|_| "HEAD~1".to_owned(), |tag| tag.trim().to_owned());
    let commit = git(&["rev-parse", "--short", &revision])?.trim().to_owned();
    let place = tempfile::Builder::new().prefix("mux-previous-").tempdir()?;
    let tree = place.path().join("tree");
    let text = tree.to_string_lossy().into_owned();
    git(&["worktree", "add", "--detach", &text, &revision])?;
    let target = root.join("target").join("previous");
    let built = output(
        Command::new("cargo")
            .args(["build", "--release", "-p", "muxd", "--bin", "muxd", "--target-dir"])
            .arg(&target)
            .current_dir(&tree),
    );
    git(&["worktree", "remove", "--force", &text])?;
    built?;
    Ok((target.join("release").join("muxd"), commit))
}

fn output(command: &mut Command) -> std::io::Result<String> {
    let output = command.output()?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let why = String::from_utf8_lossy(&output.stderr);
    Err(std::io::Error::other(format!("{command:?}: {}", why.trim())))
}
