//! Which of two commits came first, as git has it.

use std::{path::Path, process::Command};

/// Of a commit, beside an earlier one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// The earlier one is among its ancestors.
    Later,
    /// It is the same, or an ancestor itself, or of another branch.
    NotLater,
    /// Why nobody knows.
    NotChecked(String),
}

/// In the repository of these sources.
pub(super) fn order(earlier: &str, later: &str) -> Order {
    order_in(Path::new(env!("CARGO_MANIFEST_DIR")), earlier, later)
}

fn order_in(dir: &Path, earlier: &str, later: &str) -> Order {
    // Changed sources are of no commit, and nothing else may be taken for an option.
    let commit = |text: &str| text.len() >= 4 && text.chars().all(|char| char.is_ascii_hexdigit());
    if let Some(other) = [earlier, later].into_iter().find(|text| !commit(text)) {
        return Order::NotChecked(format!("{other:?} is no commit"));
    }
    // Of a commit and itself both are true.
    let later =
        is_ancestor(dir, earlier, later).and_then(|yes| Ok(yes && !is_ancestor(dir, later, earlier)?));
    match later {
        Ok(true) => Order::Later,
        // What was cut off of the history may have been the way from one to the other.
        Ok(false) if is_shallow(dir) => Order::NotChecked("the history here is not whole".into()),
        Ok(false) => Order::NotLater,
        Err(why) => Order::NotChecked(why.into()),
    }
}

/// What git says if it cannot tell names places of this machine, and is not told.
fn is_ancestor(dir: &Path, earlier: &str, later: &str) -> Result<bool, &'static str> {
    let git = Command::new("git")
        .current_dir(dir)
        .args([
            "merge-base",
            "--is-ancestor",
            &format!("{earlier}^{{commit}}"),
            &format!("{later}^{{commit}}"),
        ])
        .output();
    match git.map_err(|_| "git cannot be asked here")?.status.code() {
        Some(0) => Ok(true),
        Some(1) => Ok(false),
        _ => Err("git does not know both commits"),
    }
}

fn is_shallow(dir: &Path) -> bool {
    let git = Command::new("git").current_dir(dir).args(["rev-parse", "--is-shallow-repository"]).output();
    // Older ones repeat what they do not understand.
    git.is_ok_and(|said| said.stdout.trim_ascii() != b"false")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn git(dir: &Path, arguments: &[&str]) -> String {
        let identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"];
        let output = Command::new("git").current_dir(dir).args(identity).args(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn commit(dir: &Path, what: &str) -> String {
        git(dir, &["commit", "--quiet", "--allow-empty", "-m", what]);
        git(dir, &["rev-parse", "--short", "HEAD"])
    }

    #[test]
    fn only_a_descendant_is_later() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        git(dir, &["init", "--quiet"]);
        let (first, second) = (commit(dir, "first"), commit(dir, "second"));
        git(dir, &["checkout", "--quiet", &first]);
        let beside = commit(dir, "beside");
        assert_eq!(order_in(dir, &first, &second), Order::Later);
        for (earlier, later) in [(&second, &first), (&first, &first), (&second, &beside)] {
            assert_eq!(order_in(dir, earlier, later), Order::NotLater, "{earlier} {later}");
        }
        let none = Order::NotChecked("git does not know both commits".into());
        assert_eq!(order_in(dir, "0000000", &second), none);
    }

    #[test]
    fn what_is_cut_off_of_the_history_is_not_held_against_a_commit() {
        let (whole, cut) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        git(whole.path(), &["init", "--quiet"]);
        let first = commit(whole.path(), "first");
        let second = commit(whole.path(), "second");
        let from = format!("file://{}", whole.path().display());
        git(cut.path(), &["clone", "--quiet", "--depth", "1", &from, "."]);
        git(
            cut.path(),
            &["fetch", "--quiet", "--depth", "1", "origin", &git(whole.path(), &["rev-parse", &first])],
        );
        let not = Order::NotChecked("the history here is not whole".into());
        assert_eq!(order_in(cut.path(), &first, &second), not);
    }

    #[test]
    fn what_is_no_commit_is_not_asked_for() {
        for other in ["", "abc1234+", "before abc1234", "unknown", "--all"] {
            let Order::NotChecked(why) = order(other, "abc1234") else { panic!("{other:?} is checked") };
            assert_eq!(why, format!("{other:?} is no commit"));
        }
        let gone = order_in(Path::new("/nowhere/at/all"), "abc1234", "def5678");
        assert_eq!(gone, Order::NotChecked("git cannot be asked here".into()));
    }
}
