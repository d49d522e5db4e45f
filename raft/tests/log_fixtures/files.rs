//! How fixtures are stored: small, and readable without any code under test but the commands themselves.

use mux_raft::machine::LogPosition;
use std::fs;
use std::path::{Path, PathBuf};

/// Empty blocks of files are left out; sled's are mostly empty.
const BLOCK: usize = 256;

pub(crate) fn directory(level: u16) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/level{level}"))
}

/// An entry: its position, and the command's envelope as it was encoded (`None`: a new leader's first entry).
pub(crate) type Raw = (LogPosition, Option<Vec<u8>>);

/// `term u64 | index u64 | length u32 | envelope`, little-endian.
pub(crate) fn write_log(path: &Path, log: &[Raw]) {
    let mut bytes = Vec::new();
    for (at, envelope) in log {
        let envelope = envelope.as_deref().unwrap_or_default();
        bytes.extend(at.term.to_le_bytes());
        bytes.extend(at.index.to_le_bytes());
        bytes.extend(u32::try_from(envelope.len()).unwrap().to_le_bytes());
        bytes.extend(envelope);
    }
    fs::write(path, bytes).unwrap();
}

pub(crate) fn read_log(path: &Path) -> Vec<Raw> {
    let bytes = fs::read(path).unwrap();
    let (mut rest, mut log) = (bytes.as_slice(), Vec::new());
    while !rest.is_empty() {
        let number = |at: usize| u64::from_le_bytes(rest[at..at + 8].try_into().unwrap());
        let at = LogPosition { term: number(0), index: number(8) };
        let length = u32::from_le_bytes(rest[16..20].try_into().unwrap()) as usize;
        let envelope = rest[20..20 + length].to_vec();
        log.push((at, (length > 0).then_some(envelope)));
        rest = &rest[20 + length..];
    }
    log
}

/// What a replica had computed after this entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) index: u64,
    pub(crate) chain_hash: String,
    /// SHA-256 over all replies so far.
    pub(crate) replies: String,
}

pub(crate) fn write_marks(path: &Path, marks: &[Mark]) {
    let lines: Vec<String> =
        marks.iter().map(|mark| format!("{} {} {}\n", mark.index, mark.chain_hash, mark.replies)).collect();
    fs::write(path, lines.concat()).unwrap();
}

pub(crate) fn read_marks(path: &Path) -> Vec<Mark> {
    let text = fs::read_to_string(path).unwrap();
    let mark = |line: &str| {
        let mut words = line.split(' ');
        let mut word = || words.next().unwrap().to_owned();
        Mark { index: word().parse().unwrap(), chain_hash: word(), replies: word() }
    };
    text.lines().map(mark).collect()
}

/// A file: its path in the directory, its length, and the blocks of it that are not empty.
type Packed = (String, u64, Vec<(u64, Vec<u8>)>);

/// Puts a directory into one file.
pub(crate) fn pack(dir: &Path, into: &Path) {
    let mut files: Vec<Packed> = Vec::new();
    let mut todo = vec![dir.to_path_buf()];
    while let Some(next) = todo.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                todo.push(path);
                continue;
            }
            let bytes = fs::read(&path).unwrap();
            let blocks = bytes.chunks(BLOCK).enumerate();
            let blocks = blocks.filter(|(_, block)| block.iter().any(|byte| *byte != 0));
            let blocks = blocks.map(|(number, block)| (number as u64, block.to_vec())).collect();
            let name = path.strip_prefix(dir).unwrap().to_str().unwrap().to_owned();
            files.push((name, bytes.len() as u64, blocks));
        }
    }
    files.sort();
    fs::write(into, postcard::to_stdvec(&files).unwrap()).unwrap();
}

/// And back.
pub(crate) fn unpack(from: &Path, dir: &Path) {
    let files: Vec<Packed> = postcard::from_bytes(&fs::read(from).unwrap()).unwrap();
    for (name, length, blocks) in files {
        let mut bytes = vec![0; usize::try_from(length).unwrap()];
        for (number, block) in blocks {
            let start = usize::try_from(number).unwrap() * BLOCK;
            bytes[start..start + block.len()].copy_from_slice(&block);
        }
        let path = dir.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}
