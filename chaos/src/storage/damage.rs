use anyhow::Context as _;
use rand::Rng;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

/// What a disk loses or confuses at a time.
const PAGE_BYTES: u64 = 4096;

/// How often a page is looked for whose loss can be seen, before a bit is flipped instead.
const PAGE_TRIES: usize = 16;

/// What is done to a file.
#[derive(Clone, Copy, Debug)]
enum Harm {
    Cut,
    Flip,
    Zero,
    Swap,
}

/// Of ten: single bits and cuts are what most files can suffer.
const HARMS: [Harm; 10] = [
    Harm::Cut,
    Harm::Cut,
    Harm::Flip,
    Harm::Flip,
    Harm::Flip,
    Harm::Flip,
    Harm::Zero,
    Harm::Zero,
    Harm::Swap,
    Harm::Swap,
];

/// Flips a bit of some file, cuts one short, zeroes a page or swaps two. Says what was done.
pub(super) fn inflict(data: &Path, random: &mut impl Rng) -> anyhow::Result<String> {
    let mut files = Vec::new();
    collect(data, &mut files)?;
    files.retain(|(_, bytes)| *bytes > 0);
    files.sort();
    anyhow::ensure!(!files.is_empty(), "{} holds nothing", data.display());
    let (path, bytes) = files.swap_remove(random.random_range(0..files.len()));
    let name = path.strip_prefix(data).unwrap_or(&path).display().to_string();
    let file = OpenOptions::new().read(true).write(true).open(&path)?;
    let done = match HARMS[random.random_range(0..HARMS.len())] {
        Harm::Cut => Some(cut(&file, bytes, random)?),
        Harm::Flip => None,
        Harm::Zero => zero(&file, bytes, random)?,
        Harm::Swap => swap(&file, bytes, random)?,
    };
    let what = match done {
        Some(what) => what,
        // A file too small or too empty for pages has bits all the same.
        None => flip(&file, bytes, random)?,
    };
    Ok(format!("{name}: {what}"))
}

fn cut(file: &File, bytes: u64, random: &mut impl Rng) -> anyhow::Result<String> {
    let at = random.random_range(0..bytes);
    file.set_len(at)?;
    Ok(format!("cut to {at} of {bytes} bytes"))
}

fn flip(file: &File, bytes: u64, random: &mut impl Rng) -> anyhow::Result<String> {
    let (at, bit) = (random.random_range(0..bytes), random.random_range(0..8_u8));
    let mut byte = [0];
    file.read_exact_at(&mut byte, at)?;
    file.write_all_at(&[byte[0] ^ (1 << bit)], at)?;
    Ok(format!("bit {bit} of byte {at} of {bytes} flipped"))
}

/// A page comes back as zeros: the last one may be no whole one. `None`: all that were looked at are.
fn zero(file: &File, bytes: u64, random: &mut impl Rng) -> anyhow::Result<Option<String>> {
    let pages = bytes.div_ceil(PAGE_BYTES);
    for _ in 0..PAGE_TRIES {
        let number = random.random_range(0..pages);
        let page = read(file, number, bytes)?;
        if page.iter().any(|byte| *byte != 0) {
            file.write_all_at(&vec![0; page.len()], number * PAGE_BYTES)?;
            return Ok(Some(format!("page {number} of {pages} zeroed")));
        }
    }
    Ok(None)
}

/// Two whole pages are in each other's place. `None`: there are no two that differ among those that were looked at.
fn swap(file: &File, bytes: u64, random: &mut impl Rng) -> anyhow::Result<Option<String>> {
    let pages = bytes / PAGE_BYTES;
    if pages < 2 {
        return Ok(None);
    }
    for _ in 0..PAGE_TRIES {
        let (one, other) = (random.random_range(0..pages), random.random_range(0..pages));
        let (first, second) = (read(file, one, bytes)?, read(file, other, bytes)?);
        if first != second {
            file.write_all_at(&second, one * PAGE_BYTES)?;
            file.write_all_at(&first, other * PAGE_BYTES)?;
            return Ok(Some(format!("pages {one} and {other} of {pages} swapped")));
        }
    }
    Ok(None)
}

/// A page, or what the file has of it.
fn read(file: &File, number: u64, bytes: u64) -> anyhow::Result<Vec<u8>> {
    let from = number * PAGE_BYTES;
    let mut page = vec![0; usize::try_from(PAGE_BYTES.min(bytes - from))?];
    file.read_exact_at(&mut page, from)?;
    Ok(page)
}

fn collect(dir: &Path, files: &mut Vec<(PathBuf, u64)>) -> anyhow::Result<()> {
    for entry in fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        if metadata.is_dir() {
            collect(&entry.path(), files)?;
        } else {
            files.push((entry.path(), metadata.len()));
        }
    }
    Ok(())
}

/// Puts a copy of a directory in another's place.
pub(super) fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    if to.exists() {
        fs::remove_dir_all(to)?;
    }
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{SeedableRng as _, rngs::StdRng};

    /// A file of these bytes, after something was done to it.
    fn after(before: &[u8], harm: impl FnOnce(&File, u64, &mut StdRng)) -> Vec<u8> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, before).unwrap();
        let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        harm(&file, before.len() as u64, &mut StdRng::seed_from_u64(1));
        fs::read(&path).unwrap()
    }

    #[test]
    fn a_page_with_something_in_it_is_zeroed_and_the_length_stays() {
        // One whole page of zeros, then what is left: only that can be zeroed.
        let mut before = vec![0; 5_000];
        before[4_500] = 7;
        let found = after(&before, |file, bytes, random| {
            assert_eq!(zero(file, bytes, random).unwrap().as_deref(), Some("page 1 of 2 zeroed"));
        });
        assert_eq!(found, vec![0; 5_000]);
        after(&[0; 5_000], |file, bytes, random| assert_eq!(zero(file, bytes, random).unwrap(), None));
    }

    #[test]
    fn two_whole_pages_that_differ_change_places() {
        let before = [vec![1; 4_096], vec![2; 4_096], vec![3; 10]].concat();
        let found =
            after(&before, |file, bytes, random| assert!(swap(file, bytes, random).unwrap().is_some()));
        assert_eq!(found, [vec![2; 4_096], vec![1; 4_096], vec![3; 10]].concat());
        for same in [vec![1; 8_192], vec![1; 8_191]] {
            after(&same, |file, bytes, random| assert_eq!(swap(file, bytes, random).unwrap(), None));
        }
    }
}
