//! What a process says that may be killed: lines of a file, each there once it is written.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

#[derive(Clone, Debug)]
pub struct Ledger(PathBuf);

impl Ledger {
    pub fn in_folder(folder: &Path) -> Ledger {
        Ledger(folder.join("ledger"))
    }

    pub fn write(&self, word: &str, value: &str) {
        let mut file = File::options().create(true).append(true).open(&self.0).unwrap();
        file.write_all(format!("{word} {value}\n").as_bytes()).unwrap();
    }

    /// What was said with a word, in order.
    pub fn read(&self, word: &str) -> Vec<String> {
        let text = std::fs::read_to_string(&self.0).unwrap_or_default();
        text.lines().filter_map(|line| line.strip_prefix(word)?.strip_prefix(' ').map(str::to_owned)).collect()
    }

    pub fn numbers<T: FromIterator<u64>>(&self, word: &str) -> T {
        self.read(word).iter().map(|number| number.parse::<u64>().unwrap()).collect()
    }
}
