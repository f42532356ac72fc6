//! A disk that loses power.
//!
//! It does the real operations on a real folder, and keeps beside it what would survive: of each file the bytes at its last
//! sync, of each folder the names at its last sync. What came later survives in part, as chance has it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, IoSlice};
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use meshlake_storage::{Disk, DiskFile, LocalDisk};
use parking_lot::Mutex;
use tempfile::TempDir;

use super::Rng;

/// What a thread that uses the disk dies of when the power is gone.
#[derive(Debug)]
pub struct PowerLost;

#[derive(Clone, Debug, Default)]
struct Inode {
    synced: Vec<u8>,
    written: Vec<u8>,
    /// A sync failed: the system has dropped what it could not write, and says nothing of it at the next sync.
    dropped: bool,
}

#[derive(Clone, Copy, Debug)]
enum Node {
    File(usize),
    Folder,
}

#[derive(Clone, Debug)]
struct State {
    inodes: Vec<Inode>,
    names: BTreeMap<PathBuf, Node>,
    durable: BTreeMap<PathBuf, Node>,
    /// Changes of names that are not durable yet, in order: a name, and what it is the name of from then on.
    pending: Vec<(PathBuf, Option<Node>)>,
    rng: Rng,
    /// Operations until the power goes.
    left: Option<u64>,
    dead: bool,
    flaky: bool,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct LossyDisk {
    folder: Arc<TempDir>,
    root: PathBuf,
    state: Arc<Mutex<State>>,
}

impl LossyDisk {
    pub fn new(seed: u64) -> LossyDisk {
        LossyDisk::image(State {
            inodes: Vec::new(),
            names: BTreeMap::new(),
            durable: BTreeMap::new(),
            pending: Vec::new(),
            rng: Rng(seed),
            left: None,
            dead: false,
            flaky: false,
        })
    }

    /// A running disk with this state, in a folder of its own.
    fn image(mut state: State) -> LossyDisk {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        for (path, node) in &state.names {
            match node {
                Node::Folder => fs::create_dir(root.join(path)).unwrap(),
                Node::File(inode) => fs::write(root.join(path), &state.inodes[*inode].written).unwrap(),
            }
        }
        (state.left, state.dead, state.flaky) = (None, false, false);
        LossyDisk { folder: Arc::new(folder), root, state: Arc::new(Mutex::new(state)) }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The power goes at the operation after `operations` more, which happens in part.
    pub fn die_after(&self, operations: u64) {
        self.state.lock().left = Some(operations);
    }

    /// The power goes now.
    pub fn die(&self) {
        self.state.lock().dead = true;
    }

    pub fn is_dead(&self) -> bool {
        self.state.lock().dead
    }

    pub fn is_flaky(&self) -> bool {
        self.state.lock().flaky
    }

    /// From now on operations fail now and then, those on the journal more often.
    pub fn make_flaky(&self) {
        self.state.lock().flaky = true;
    }

    /// The machine lost its power: a disk with what is durable, and a random part of the rest.
    pub fn after_power_loss(&self) -> LossyDisk {
        let mut state = self.state.lock().clone();
        let likely = state.rng.below(5);
        let happens = |rng: &mut Rng| rng.below(4) < likely;
        for (path, node) in std::mem::take(&mut state.pending) {
            if happens(&mut state.rng) {
                set(&mut state.durable, path, node);
            }
        }
        for inode in &mut state.inodes {
            let content = inode.after_power_loss(&mut state.rng);
            (inode.synced, inode.written, inode.dropped) = (content.clone(), content, false);
        }
        let reachable = |path: &Path| {
            let mut above = path.ancestors().skip(1).filter(|above| !above.as_os_str().is_empty());
            above.all(|above| matches!(state.durable.get(above), Some(Node::Folder)))
        };
        state.names = state.durable.iter().filter(|(path, _)| reachable(path)).map(|(path, node)| (path.clone(), *node)).collect();
        state.durable.clone_from(&state.names);
        LossyDisk::image(state)
    }

    /// The process was killed: a disk with all that was written, durable or not. What a failed sync has dropped can be synced
    /// again, for a kill between that and the cut is one misfortune more than the journal promises to stand.
    pub fn after_kill(&self) -> LossyDisk {
        let mut state = self.state.lock().clone();
        state.inodes.iter_mut().for_each(|inode| inode.dropped = false);
        LossyDisk::image(state)
    }

    fn path(&self, path: &Path) -> Option<PathBuf> {
        path.strip_prefix(&self.root).ok().map(Path::to_owned)
    }

    /// Does an operation, unless the power is gone or it fails.
    fn operate<T>(
        &self,
        path: &Path,
        part: impl FnOnce(&mut State),
        whole: impl FnOnce(&mut State) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut state = self.state.lock();
        if state.dead {
            drop(state);
            resume_unwind(Box::new(PowerLost));
        }
        if state.left == Some(0) {
            state.dead = true;
            part(&mut state);
            drop(state);
            resume_unwind(Box::new(PowerLost));
        }
        state.left = state.left.map(|left| left - 1);
        let times = if path.components().any(|part| part.as_os_str() == "journal") { 12 } else { 600 };
        if state.flaky && state.rng.one_in(times) {
            part(&mut state);
            return Err(io::Error::other("the disk is flaky"));
        }
        whole(&mut state)
    }

    fn rename_or_link(&self, from: &Path, to: &Path, keep: bool) -> io::Result<()> {
        let (Some(from), Some(to)) = (self.path(from), self.path(to)) else { return Err(io::ErrorKind::Unsupported.into()) };
        self.operate(
            &to,
            |_| {},
            |state| {
                if keep {
                    LocalDisk.link(&self.root.join(&from), &self.root.join(&to))?;
                } else {
                    LocalDisk.rename(&self.root.join(&from), &self.root.join(&to))?;
                }
                let node = state.names[&from];
                state.name(to.clone(), Some(node));
                if !keep {
                    state.name(from.clone(), None);
                }
                Ok(())
            },
        )
    }
}

fn set(names: &mut BTreeMap<PathBuf, Node>, path: PathBuf, node: Option<Node>) {
    match node {
        Some(node) => names.insert(path, node),
        None => names.remove(&path),
    };
}

impl State {
    fn name(&mut self, path: PathBuf, node: Option<Node>) {
        set(&mut self.names, path.clone(), node);
        self.pending.push((path, node));
    }

    fn sync_dir(&mut self, folder: &Path) {
        let (synced, pending) = std::mem::take(&mut self.pending).into_iter().partition(|(path, _)| path.parent() == Some(folder));
        self.pending = pending;
        let synced: Vec<(PathBuf, Option<Node>)> = synced;
        synced.into_iter().for_each(|(path, node)| set(&mut self.durable, path, node));
    }
}

impl Inode {
    fn sync(&mut self) {
        if self.dropped {
            self.synced.truncate(self.written.len());
        } else {
            self.synced.clone_from(&self.written);
        }
    }

    /// The durable bytes, and some of the others; of these, some pieces never came to be written and are zeros.
    fn after_power_loss(&self, rng: &mut Rng) -> Vec<u8> {
        let (short, long) = (self.synced.len().min(self.written.len()), self.synced.len().max(self.written.len()));
        let len = match rng.below(3) {
            0 => self.synced.len(),
            1 => self.written.len(),
            _ => short + rng.below((long - short) as u64 + 1) as usize,
        };
        let source = if self.written.len() > self.synced.len() { &self.written } else { &self.synced };
        let mut content = source[..len].to_vec();
        if self.written.len() > self.synced.len() && len > short && rng.one_in(2) {
            for piece in content[short..].chunks_mut(16) {
                if rng.one_in(3) {
                    piece.fill(0);
                }
            }
        }
        content
    }
}

impl Disk for LossyDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let Some(path) = self.path(path) else { return Err(io::ErrorKind::Unsupported.into()) };
        let inode = self.operate(
            &path,
            |_| {},
            |state| {
                LocalDisk.create(&self.root.join(&path))?;
                state.inodes.push(Inode::default());
                let inode = state.inodes.len() - 1;
                state.name(path.clone(), Some(Node::File(inode)));
                Ok(inode)
            },
        )?;
        let real = LocalDisk.open_at(&self.root.join(&path), 0)?;
        Ok(Box::new(LossyFile { disk: self.clone(), path, inode, real }))
    }

    fn open_at(&self, path: &Path, len: u64) -> io::Result<Box<dyn DiskFile>> {
        let Some(path) = self.path(path) else { return Err(io::ErrorKind::Unsupported.into()) };
        let (inode, real) = self.operate(
            &path,
            |_| {},
            |state| {
                let real = LocalDisk.open_at(&self.root.join(&path), len)?;
                let Some(Node::File(inode)) = state.names.get(&path).copied() else { return Err(io::ErrorKind::NotFound.into()) };
                state.inodes[inode].written.resize(len as usize, 0);
                Ok((inode, real))
            },
        )?;
        Ok(Box::new(LossyFile { disk: self.clone(), path, inode, real }))
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.rename_or_link(from, to, true)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.rename_or_link(from, to, false)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let Some(path) = self.path(path) else { return Err(io::ErrorKind::Unsupported.into()) };
        self.operate(
            &path,
            |_| {},
            |state| {
                LocalDisk.remove(&self.root.join(&path))?;
                state.name(path.clone(), None);
                Ok(())
            },
        )
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let Some(path) = self.path(path) else { return Err(io::ErrorKind::Unsupported.into()) };
        self.operate(
            &path,
            |_| {},
            |state| {
                LocalDisk.create_dir(&self.root.join(&path))?;
                state.name(path.clone(), Some(Node::Folder));
                Ok(())
            },
        )
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        // What is above the root was there before the power came.
        let Some(path) = self.path(path) else { return Ok(()) };
        self.operate(
            &path,
            |_| {},
            |state| {
                state.sync_dir(&path);
                Ok(())
            },
        )
    }
}

#[derive(Debug)]
struct LossyFile {
    disk: LossyDisk,
    path: PathBuf,
    inode: usize,
    real: Box<dyn DiskFile>,
}

impl DiskFile for LossyFile {
    fn append(&mut self, slices: &mut [IoSlice<'_>]) -> io::Result<()> {
        let bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
        let (inode, real) = (self.inode, &mut self.real);
        let mut part = 0;
        let result = self.disk.operate(
            &self.path,
            |state| {
                part = state.rng.below(bytes.len() as u64 + 1) as usize;
                state.inodes[inode].written.extend_from_slice(&bytes[..part]);
            },
            |state| {
                state.inodes[inode].written.extend_from_slice(&bytes);
                Ok(())
            },
        );
        let written = if result.is_ok() { &bytes[..] } else { &bytes[..part] };
        real.append(&mut [IoSlice::new(written)])?;
        result
    }

    fn sync(&mut self) -> io::Result<()> {
        let inode = self.inode;
        self.disk.operate(
            &self.path,
            |state| {
                if state.rng.one_in(2) {
                    state.inodes[inode].sync();
                } else {
                    state.inodes[inode].dropped = true;
                }
            },
            |state| {
                state.inodes[inode].sync();
                Ok(())
            },
        )
    }
}
