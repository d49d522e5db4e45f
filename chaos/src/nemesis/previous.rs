//! An older `muxd`, built from this repository's past.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// Builds the last one of the version before this, in release, below the target directory, and says which commit it is of.
///
/// # Errors
/// There is no repository, it does not reach back to that commit, or that does not build.
pub(super) fn build() -> std::io::Result<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let root = std::fs::canonicalize(root)?;
    let git = |arguments: &[&str]| output(Command::new("git").arg("-C").arg(&root).args(arguments));
    let raised = git(&["log", "-1", "--format=%h", "-G^version = ", "--", "Cargo.toml"])?;
    let revision = format!("{}~1", raised.trim());
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

/// Which one this is: its version, and its commit if that was told.
pub(super) fn name(binary: &Path, commit: Option<&str>) -> String {
    let version = output(Command::new(binary).arg("--version"));
    let version = version.map_or_else(|_| "muxd (no version told)".to_owned(), |text| text.trim().to_owned());
    match commit {
        Some(commit) => format!("{version} of commit {commit}"),
        None => format!("{version} of a commit that was not told"),
    }
}

fn output(command: &mut Command) -> std::io::Result<String> {
    let output = command.output()?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let why = String::from_utf8_lossy(&output.stderr);
    Err(std::io::Error::other(format!("{command:?}: {}", why.trim())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_binary_is_named_by_what_it_says_and_by_the_commit_that_is_told() {
        // Any program that tells its version.
        let cargo = Path::new(env!("CARGO"));
        assert!(name(cargo, Some("abc1234")).starts_with("cargo "), "{}", name(cargo, None));
        assert!(name(cargo, Some("abc1234")).ends_with(" of commit abc1234"));
        let none = name(Path::new("no such program"), None);
        assert_eq!(none, "muxd (no version told) of a commit that was not told");
    }
}
