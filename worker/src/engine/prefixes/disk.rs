//! Saved prompts on disk, so that a restart does not cost a long conversation its reading.
//!
//! ```text
//! <folder>/1-<fingerprint>-<dtype>/<key>.safetensors      a block of 64 tokens; key = SHA-256(key before it, its tokens)
//! ```
//! A file is found by the tokens alone: no index to load, to repair or to keep in step, and a worker that is already
//! serving finds what another one writes. Files get their name when they are whole; one that is not is as good as none.
//! The engine thread writes, since arrays are its own; flushing and renaming wait for the disk, and have a thread.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use mlx_rs::Array;
use sha2::{Digest, Sha256};

/// Changes when the layout of a block does.
const FORMAT: u32 = 1;
/// Ending of whole files; MLX insists on it for those on their way, too.
const WHOLE: &str = ".safetensors";
const PART: &str = ".part.safetensors";
/// The one array in a file.
const ARRAY: &str = "kv";
/// Files written and not yet flushed: more would only fill memory faster than the disk empties it.
const MOST_PENDING: u32 = 8;
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// Names a block by everything up to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BlockKey([u8; 16]);

impl BlockKey {
    /// Of the block with `tokens` that follows on the one called `before`.
    pub(super) fn after(before: Option<Self>, tokens: &[u32]) -> Self {
        let mut digest = Sha256::new();
        digest.update(before.map_or([0; 16], |key| key.0));
        for token in tokens {
            digest.update(token.to_le_bytes());
        }
        let mut key = [0; 16];
        key.copy_from_slice(&digest.finalize()[..16]);
        Self(key)
    }

    fn hex(self) -> String {
        format!("{:032x}", u128::from_be_bytes(self.0))
    }
}

type Job = Box<dyn FnOnce() + Send>;

/// The blocks of one model.
#[derive(Debug)]
pub(super) struct PrefixFolder {
    root: PathBuf,
    folder: PathBuf,
    /// Bytes that files of all models may have together.
    most: u64,
    /// Bytes of a block's array.
    block_bytes: u64,
    jobs: Sender<Job>,
    pending: Arc<AtomicU32>,
}

impl PrefixFolder {
    /// Opens, or makes, the folder of the model with this `fingerprint` and `dtype` under `root`.
    ///
    /// # Errors
    /// When it cannot be made, or there is no thread.
    pub(super) fn open(root: &Path, fingerprint: &str, dtype: &str, most: u64, block_bytes: u64) -> io::Result<Self> {
        let folder = root.join(format!("{FORMAT}-{fingerprint}-{dtype}"));
        DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        let (jobs, queue) = mpsc::channel::<Job>();
        let pending = Arc::new(AtomicU32::new(0));
        let done = Arc::clone(&pending);
        // Ends with the last sender.
        thread::Builder::new().name("prefixes".to_owned()).spawn(move || {
            for job in queue {
                job();
                done.fetch_sub(1, SeqCst);
            }
        })?;
        Ok(Self { root: root.to_owned(), folder, most, block_bytes, jobs, pending })
    }

    /// The block of that name, not yet evaluated; nothing when it is not there or not whole.
    pub(super) fn read(&self, key: BlockKey) -> Option<Array> {
        let path = self.path(key, WHOLE);
        let file = File::open(&path).ok()?;
        if !is_whole(&file, self.block_bytes) {
            tracing::warn!(path = %path.display(), "a saved prompt is damaged; it is removed and read anew");
            let _ = fs::remove_file(&path);
            return None;
        }
        // The clean-up goes by it.
        let _ = file.set_modified(SystemTime::now());
        match Array::load_safetensors(&path) {
            Ok(mut arrays) => arrays.remove(ARRAY).filter(|array| array.nbytes() as u64 == self.block_bytes),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "a saved prompt cannot be read; it is removed");
                let _ = fs::remove_file(&path);
                None
            }
        }
    }

    /// True when the disk does not keep up, and a writer should come back later.
    pub(super) fn is_behind(&self) -> bool {
        self.pending.load(SeqCst) >= MOST_PENDING
    }

    /// Writes a block; it gets its name when it has reached the disk.
    ///
    /// # Errors
    /// When it could not be written.
    pub(super) fn write(&self, key: BlockKey, block: &Array) -> Result<(), String> {
        let (part, whole) = (self.path(key, PART), self.path(key, WHOLE));
        if whole.exists() {
            return Ok(());
        }
        Array::save_safetensors([(ARRAY, block)], None, &part).map_err(|error| {
            let _ = fs::remove_file(&part);
            error.to_string()
        })?;
        self.then(move || {
            let finish = || File::open(&part)?.sync_all().and_then(|()| fs::rename(&part, &whole));
            if let Err(error) = finish() {
                tracing::warn!(path = %part.display(), %error, "a saved prompt did not reach the disk");
                let _ = fs::remove_file(&part);
            }
        });
        Ok(())
    }

    /// Does something when everything written so far is on disk or has failed.
    pub(super) fn then(&self, job: impl FnOnce() + Send + 'static) {
        self.pending.fetch_add(1, SeqCst);
        // The thread lives as long as this sender.
        let _ = self.jobs.send(Box::new(job));
    }

    /// Removes what was not used for longest where the files have become too many, and what was left half written.
    pub(super) fn clean_up(&self) {
        let (root, own, most) = (self.root.clone(), self.folder.clone(), self.most);
        self.then(move || {
            if let Err(error) = prune(&root, &own, most) {
                tracing::warn!(folder = %root.display(), %error, "saved prompts on disk could not be cleaned up");
            }
        });
    }

    /// Lets the disk catch up.
    pub(super) fn wait_a_little(&self) {
        thread::sleep(LOOK_EVERY);
    }

    /// Waits until everything is on disk, but not beyond `deadline`.
    pub(super) fn wait(&self, deadline: Instant) {
        while self.pending.load(SeqCst) > 0 && Instant::now() < deadline {
            thread::sleep(LOOK_EVERY);
        }
    }

    fn path(&self, key: BlockKey, ending: &str) -> PathBuf {
        self.folder.join(key.hex() + ending)
    }
}

/// MLX ends the process when a file is shorter than its header says: it is measured first.
fn is_whole(mut file: &File, array_bytes: u64) -> bool {
    let mut header = [0; 8];
    if file.read_exact(&mut header).is_err() {
        return false;
    }
    let expected = u64::from_le_bytes(header).checked_add(8).and_then(|start| start.checked_add(array_bytes));
    expected.is_some() && expected == file.metadata().ok().map(|metadata| metadata.len())
}

/// Removes the oldest files of all models until no more than `most` bytes are left, parts nobody works on any more, and
/// folders but our own that are empty then.
fn prune(root: &Path, own: &Path, most: u64) -> io::Result<()> {
    /// A worker that writes one has renamed it long before.
    const FORGOTTEN: Duration = Duration::from_secs(3600);
    let mut files = Vec::new();
    for folder in fs::read_dir(root)? {
        let folder = folder?.path();
        if !folder.is_dir() {
            continue;
        }
        for file in fs::read_dir(&folder)? {
            let path = file?.path();
            let Ok(metadata) = fs::metadata(&path) else { continue };
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let used = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            if name.ends_with(PART) {
                if used.elapsed().is_ok_and(|age| age > FORGOTTEN) {
                    let _ = fs::remove_file(&path);
                }
            } else if name.ends_with(WHOLE) {
                files.push((used, metadata.len(), path));
            }
        }
    }
    let mut bytes: u64 = files.iter().map(|(_, bytes, _)| bytes).sum();
    files.sort();
    for (_, size, path) in files {
        if bytes <= most {
            break;
        }
        fs::remove_file(&path)?;
        bytes -= size;
        if let Some(folder) = path.parent().filter(|folder| *folder != own) {
            // Refused unless it is empty.
            let _ = fs::remove_dir(folder);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: [i32; 4] = [2, 1, 64, 4];
    const BYTES: u64 = 2 * 64 * 4 * 4;

    fn block(value: f32) -> Array {
        mlx_rs::Device::set_default(&mlx_rs::Device::cpu());
        Array::from_slice(&[value; 512], &SHAPE)
    }

    fn key(number: u32) -> BlockKey {
        BlockKey::after(None, &[number; 64])
    }

    fn open(root: &Path, most: u64) -> PrefixFolder {
        PrefixFolder::open(root, "f", "float32", most, BYTES).unwrap()
    }

    fn settle(folder: &PrefixFolder) {
        folder.wait(Instant::now() + Duration::from_secs(20));
        assert_eq!(folder.pending.load(SeqCst), 0);
    }

    fn value(folder: &PrefixFolder, key: BlockKey) -> Option<f32> {
        folder.read(key).map(|array| array.as_slice::<f32>()[511])
    }

    #[test]
    fn a_key_is_of_everything_before_it() {
        let first = key(1);
        assert_ne!(BlockKey::after(Some(first), &[2; 64]), BlockKey::after(None, &[2; 64]));
        assert_ne!(BlockKey::after(Some(first), &[2; 64]), BlockKey::after(Some(first), &[3; 64]));
        assert_eq!(BlockKey::after(Some(first), &[2; 64]), BlockKey::after(Some(key(1)), &[2; 64]));
        assert_eq!(first.hex().len(), 32);
    }

    #[test]
    fn what_one_worker_writes_another_reads_and_a_model_only_its_own() {
        let root = tempfile::tempdir().unwrap();
        let (one, other) = (open(root.path(), 1 << 20), open(root.path(), 1 << 20));
        one.write(key(1), &block(1.5)).unwrap();
        settle(&one);
        assert_eq!((value(&other, key(1)), value(&other, key(2))), (Some(1.5), None));
        let another = PrefixFolder::open(root.path(), "g", "float32", 1 << 20, BYTES).unwrap();
        assert_eq!(value(&another, key(1)), None);
        let parts = fs::read_dir(&one.folder).unwrap().count();
        assert_eq!(parts, 1, "nothing half written stays");
    }

    #[test]
    fn a_file_that_is_not_whole_is_none_and_goes() {
        let root = tempfile::tempdir().unwrap();
        let folder = open(root.path(), 1 << 20);
        for damage in [
            &(|bytes: &[u8]| bytes[..bytes.len() - 1].to_vec()) as &dyn Fn(&[u8]) -> Vec<u8>,
            &|_| Vec::new(),
            &|bytes| [&[255; 8], &bytes[8..]].concat(),
            &|bytes| [&bytes[..8], &vec![b'x'; bytes.len() - 8]].concat(),
        ] {
            folder.write(key(1), &block(1.0)).unwrap();
            settle(&folder);
            let path = folder.path(key(1), WHOLE);
            let damaged = damage(&fs::read(&path).unwrap());
            fs::write(&path, damaged).unwrap();
            assert_eq!(value(&folder, key(1)), None);
            assert!(!path.exists());
        }
    }

    #[test]
    fn the_least_recently_used_goes_first_whichever_model_it_is_of() {
        let root = tempfile::tempdir().unwrap();
        let (old, folder) =
            (PrefixFolder::open(root.path(), "old", "float32", 1 << 20, BYTES).unwrap(), open(root.path(), 5000));
        let age = |folder: &PrefixFolder, number: u32, hours: u64| {
            folder.write(key(number), &block(1.0)).unwrap();
            settle(folder);
            let used = SystemTime::now() - Duration::from_secs(hours * 3600);
            File::open(folder.path(key(number), WHOLE)).unwrap().set_modified(used).unwrap();
        };
        age(&old, 1, 4);
        age(&folder, 2, 3);
        age(&folder, 3, 2);
        age(&folder, 4, 1);
        let (left, forgotten) = (folder.path(key(5), PART), folder.path(key(6), PART));
        fs::write(&left, "x").unwrap();
        fs::write(&forgotten, "x").unwrap();
        let long_ago = SystemTime::now() - Duration::from_secs(7200);
        File::options().write(true).open(&forgotten).unwrap().set_modified(long_ago).unwrap();
        assert!(value(&folder, key(2)).is_some(), "read just now");
        folder.clean_up();
        settle(&folder);
        let there = |number| value(&folder, key(number)).is_some();
        assert_eq!((there(2), there(3), there(4)), (true, false, true), "two files of 2 KiB and a header each fit");
        assert!(!old.folder.exists() && left.exists() && !forgotten.exists());
    }

    #[test]
    fn a_folder_that_is_not_to_be_had_is_an_error() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("file");
        fs::write(&file, "").unwrap();
        PrefixFolder::open(&file, "f", "float32", 1, 1).unwrap_err();
        let folder = open(root.path(), 1 << 20);
        fs::remove_dir(&folder.folder).unwrap();
        folder.write(key(1), &block(1.0)).unwrap_err();
    }
}
