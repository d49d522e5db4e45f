use anyhow::Context as _;
use rand::Rng;
use std::fs::{self, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

/// Flips a bit of some file, or cuts one short. Says what was done.
pub(super) fn inflict(data: &Path, random: &mut impl Rng) -> anyhow::Result<String> {
    let mut files = Vec::new();
    collect(data, &mut files)?;
    files.retain(|(_, bytes)| *bytes > 0);
    files.sort();
    anyhow::ensure!(!files.is_empty(), "{} holds nothing", data.display());
    let (path, bytes) = files.swap_remove(random.random_range(0..files.len()));
    let name = path.strip_prefix(data).unwrap_or(&path).display().to_string();
    let at = random.random_range(0..bytes);
    let mut file = OpenOptions::new().read(true).write(true).open(&path)?;
    if random.random_bool(0.3) {
        file.set_len(at)?;
        return Ok(format!("{name} cut to {at} of {bytes} bytes"));
    }
    let bit = random.random_range(0..8_u8);
    let mut byte = [0];
    file.seek(SeekFrom::Start(at))?;
    file.read_exact(&mut byte)?;
    file.seek(SeekFrom::Start(at))?;
    file.write_all(&[byte[0] ^ (1 << bit)])?;
    Ok(format!("bit {bit} of byte {at} of {bytes} in {name} flipped"))
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
