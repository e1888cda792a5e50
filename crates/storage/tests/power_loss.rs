//! The log loses its power, or its process is killed, at any step: what was reported as done is found again, and
//! the log is never refused. Run with `--features failpoints`.
//!
//! A model of the disk looks at the files at every step of the writer. It knows which names and blocks have been synced;
//! what has not may be on the disk after a power loss or not, each name and each block by itself. Rounds follow each other: each
//! begins with what a crash in the one before has left, so there are crashes during the recovery from crashes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
#[path = "common/model.rs"]
mod model;

use bytes::Bytes;
use common::wait;
use fail::FailScenario;
use model::{Random, State, Step, not_refused, state_of};
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use storage::{LogBackend, LogOptions, LogStore};

const BLOCK: usize = 4096;
const SLOT: usize = 4096;

/// Steps of the writer and of recovery.
const STEPS: [&str; 8] = [
    "log-file-begun",
    "log-names-synced",
    "log-written",
    "log-synced",
    "log-file-let-go",
    "log-after-sync",
    "log-tail-synced",
    "log-recovered",
];

/// A file, under the name that it has now and the one that it has for certain.
#[derive(Debug, Clone, Default, PartialEq)]
struct Known {
    name: Option<String>,
    synced_name: Option<String>,
    bytes: Arc<Vec<u8>>,
    synced: Arc<Vec<u8>>,
}

/// The disk after a crash.
struct Image {
    step: &'static str,
    files: Vec<Known>,
    witness: Vec<u8>,
    /// What the witness may be if the power fails before it is written again.
    older_witnesses: Vec<Vec<u8>>,
    /// What the log may be.
    allowed: Vec<Arc<State>>,
    first_allowed: usize,
}

struct Disk {
    dir: PathBuf,
    files: Vec<Known>,
    /// Inodes of `files`; their handles, so that no inode is used twice.
    inodes: BTreeMap<u64, usize>,
    handles: Vec<File>,
    witnesses: Vec<Vec<u8>>,
    random: Random,
    images: Vec<Image>,
    history: Vec<Arc<State>>,
}

impl Disk {
    /// Lays the files of `image` into `dir`.
    fn lay(dir: &Path, image: &Image, random: Random) -> Self {
        let mut disk = Self {
            dir: dir.to_owned(),
            files: Vec::new(),
            inodes: BTreeMap::new(),
            handles: Vec::new(),
            witnesses: image.older_witnesses.clone(),
            random,
            images: Vec::new(),
            history: Vec::new(),
        };
        std::fs::create_dir_all(dir.join("segments")).unwrap();
        for file in &image.files {
            let number = disk.files.len();
            if let Some(name) = &file.name {
                let path = dir.join("segments").join(name);
                std::fs::write(&path, &*file.bytes).unwrap();
                let handle = File::open(&path).unwrap();
                disk.inodes.insert(handle.metadata().unwrap().ino(), number);
                disk.handles.push(handle);
            }
            disk.files.push(file.clone());
        }
        if !image.witness.is_empty() {
            std::fs::write(dir.join("synced"), &image.witness).unwrap();
        }
        disk.witnesses.push(image.witness.clone());
        disk
    }

    /// Looks at the files.
    fn look(&mut self) {
        for file in &mut self.files {
            file.name = None;
        }
        for found in std::fs::read_dir(self.dir.join("segments")).unwrap() {
            let path = found.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            let handle = File::open(&path).unwrap();
            let inode = handle.metadata().unwrap().ino();
            let number = *self.inodes.entry(inode).or_insert_with(|| {
                self.handles.push(handle);
                self.files.push(Known::default());
                self.files.len() - 1
            });
            let bytes = std::fs::read(&path).unwrap();
            let file = &mut self.files[number];
            file.name = Some(name);
            if *file.bytes != bytes {
                file.bytes = Arc::new(bytes);
            }
        }
        let witness = std::fs::read(self.dir.join("synced")).unwrap_or_default();
        if self.witnesses.last() != Some(&witness) {
            self.witnesses.push(witness);
        }
    }

    fn newest(&mut self) -> Option<&mut Known> {
        let segments = self.files.iter_mut().filter(|file| {
            let name = file.name.as_ref();
            name.is_some_and(|name| name.ends_with(".seg"))
        });
        segments.max_by_key(|file| file.name.clone())
    }

    /// What a step makes certain.
    fn settle(&mut self, step: &str) {
        match step {
            "log-names-synced" => {
                for file in &mut self.files {
                    file.synced_name.clone_from(&file.name);
                }
            }
            "log-synced" | "log-tail-synced" => {
                if let Some(newest) = self.newest() {
                    newest.synced = Arc::clone(&newest.bytes);
                }
            }
            _ => {}
        }
    }

    /// What is left if the power fails now.
    fn power_loss(&mut self) -> (Vec<Known>, Vec<u8>) {
        let random = &mut self.random;
        let names = random.below(3);
        let blocks = random.below(4);
        let mut left: BTreeMap<String, Arc<Vec<u8>>> = BTreeMap::new();
        // Names that are older than what has happened since go first.
        let mut newer = Vec::new();
        for file in &self.files {
            let stays = file.name == file.synced_name;
            let kept = match names {
                0 => false,
                1 => true,
                _ => random.one_in(2),
            };
            let name = if kept { &file.name } else { &file.synced_name };
            let Some(name) = name else {
                continue;
            };
            let length = if random.one_in(3) {
                file.synced.len()
            } else {
                file.bytes.len().max(file.synced.len())
            };
            let mut bytes = vec![0; length];
            for (at, block) in bytes.chunks_mut(BLOCK).enumerate() {
                let kept = match blocks {
                    0 => false,
                    1 => true,
                    2 => random.one_in(8),
                    _ => !random.one_in(8),
                };
                let from = if kept { &file.bytes } else { &file.synced };
                let from = from.get(at * BLOCK..).unwrap_or_default();
                let len = block.len().min(from.len());
                block[..len].copy_from_slice(&from[..len]);
            }
            if kept && !stays {
                newer.push((name.clone(), Arc::new(bytes)));
            } else {
                left.insert(name.clone(), Arc::new(bytes));
            }
        }
        left.extend(newer);
        let files = left.into_iter().map(|(name, bytes)| Known {
            name: Some(name.clone()),
            synced_name: Some(name),
            bytes: Arc::clone(&bytes),
            synced: bytes,
        });
        let mut witness = Vec::new();
        for slot in 0..2 {
            let version = self.random.below(self.witnesses.len());
            let bytes = self.witnesses[version].get(slot * SLOT..);
            let bytes = bytes.unwrap_or_default();
            if !bytes.is_empty() {
                witness.resize(slot * SLOT, 0);
                witness.extend_from_slice(&bytes[..bytes.len().min(SLOT)]);
            }
        }
        (files.collect(), witness)
    }

    /// Keeps what a crash at this moment would leave.
    fn crash(&mut self, step: &'static str, acked: usize, issued: usize) {
        let (files, witness, older_witnesses) = if self.random.one_in(4) {
            // Of the process alone.
            let known = self.files.iter();
            let files = known.filter(|file| file.name.is_some() || file.synced_name.is_some());
            (
                files.cloned().collect(),
                self.witnesses.last().unwrap().clone(),
                self.witnesses.clone(),
            )
        } else {
            let (files, witness) = self.power_loss();
            (files, witness, Vec::new())
        };
        self.images.push(Image {
            step,
            files,
            witness,
            older_witnesses,
            allowed: self.history[acked..=issued].to_vec(),
            first_allowed: acked,
        });
    }
}

/// The disk and how far the writes are.
struct Watch {
    disk: Mutex<Disk>,
    on: AtomicBool,
    acked: AtomicUsize,
    issued: AtomicUsize,
}

impl Watch {
    fn step(&self, step: &'static str) {
        if !self.on.load(Ordering::SeqCst) {
            return;
        }
        let mut disk = self.disk.lock().unwrap();
        disk.look();
        let (acked, issued) = (
            self.acked.load(Ordering::SeqCst),
            self.issued.load(Ordering::SeqCst),
        );
        // The moment before, and the one after.
        if disk.random.one_in(6) {
            disk.crash(step, acked, issued);
        }
        disk.settle(step);
        if disk.random.one_in(6) {
            disk.crash(step, acked, issued);
        }
    }
}

fn options(random: &mut Random) -> LogOptions {
    LogOptions {
        segment_bytes: 8192 << random.below(3),
        recycled_files: random.below(4),
        ahead_bytes: random.below(2) as u64 * 8192,
        batch_bytes: 4096 << random.below(4),
    }
}

/// One life of a store: it begins with what `image` has left. Returns what a crash could have left at some of its steps.
fn life(dir: &Path, image: &Image, random: &mut Random) -> Vec<Image> {
    let options = options(random);
    let mut disk = Disk::lay(dir, image, Random::new(random.next()));
    disk.history.clone_from(&image.allowed);
    let watch = Arc::new(Watch {
        disk: Mutex::new(disk),
        on: AtomicBool::new(true),
        acked: AtomicUsize::new(0),
        issued: AtomicUsize::new(image.allowed.len() - 1),
    });
    for step in STEPS {
        let watch = Arc::clone(&watch);
        fail::cfg_callback(step, move || watch.step(step)).unwrap();
    }
    let log = LogStore::open(dir, options).unwrap();
    let found = Arc::new(state_of(&log).unwrap());
    {
        // From now on what was found is relied on.
        let mut disk = watch.disk.lock().unwrap();
        disk.history = vec![Arc::clone(&found)];
        watch.acked.store(0, Ordering::SeqCst);
        watch.issued.store(0, Ordering::SeqCst);
    }
    let mut state = (*found).clone();
    for number in 0..30 + random.below(30) {
        let step = Step::random(&state, random);
        step.note(&mut state);
        watch
            .disk
            .lock()
            .unwrap()
            .history
            .push(Arc::new(state.clone()));
        watch.issued.fetch_add(1, Ordering::SeqCst);
        let acks = Arc::clone(&watch);
        step.write(
            &log,
            Box::new(move |result| {
                not_refused(&result);
                result.unwrap();
                acks.acked.fetch_add(1, Ordering::SeqCst);
            }),
        );
        if random.one_in(5) {
            log.save_committed(1, Bytes::from(number.to_string()));
        }
        if random.one_in(3) {
            wait(|done| log.barrier(done)).unwrap();
        }
    }
    assert_eq!(state_of(&log).unwrap(), state);
    drop(log);
    watch.on.store(false, Ordering::SeqCst);
    for step in STEPS {
        fail::remove(step);
    }
    let mut disk = watch.disk.lock().unwrap();
    disk.look();
    let acked = watch.acked.load(Ordering::SeqCst);
    disk.crash("closed", acked, acked);
    std::mem::take(&mut disk.images)
}

/// Opens what a crash has left.
fn check(image: &Image, seed: u64, random: &mut Random) {
    let dir = tempfile::tempdir().unwrap();
    drop(Disk::lay(dir.path(), image, Random::new(1)));
    let options = options(random);
    // Twice: the first look may leave traces.
    for _ in 0..2 {
        let log = LogStore::open(dir.path(), options.clone());
        let log = log
            .unwrap_or_else(|error| panic!("seed {seed}: refused after {}: {error}", image.step));
        let found = state_of(&log).unwrap();
        let at = image.allowed.iter().position(|state| **state == found);
        assert!(
            at.is_some(),
            "seed {seed}: after {}, of {} writes, {} were reported: {found:?}\n{:?}",
            image.step,
            image.first_allowed + image.allowed.len() - 1,
            image.first_allowed,
            image.allowed.first(),
        );
    }
}

fn lives(seed: u64, count: usize) {
    let mut random = Random::new(seed);
    let mut image = Image {
        step: "nothing",
        files: Vec::new(),
        witness: Vec::new(),
        older_witnesses: Vec::new(),
        allowed: vec![Arc::new(State::new())],
        first_allowed: 0,
    };
    for _ in 0..count {
        let dir = tempfile::tempdir().unwrap();
        let mut images = life(dir.path(), &image, &mut random);
        for image in &images {
            check(image, seed, &mut random);
        }
        image = images.swap_remove(random.below(images.len()));
    }
}

#[test]
fn nothing_reported_is_lost_and_nothing_is_refused_after_any_crash() {
    let scenario = FailScenario::setup();
    let number = |name: &str, default| {
        let given = std::env::var(name).ok();
        given.map_or(default, |text| text.parse().unwrap())
    };
    let first = number("SEED", 1);
    for seed in first..first + number("SEEDS", 1) {
        lives(seed, 8);
    }
    scenario.teardown();
}

#[test]
fn a_step_that_fails_stops_the_log_and_a_restart_finds_what_was_reported() {
    let scenario = FailScenario::setup();
    let mut random = Random::new(5);
    let dir = tempfile::tempdir().unwrap();
    let mut state = State::new();
    let mut failed = BTreeMap::new();
    for _ in 0..60 {
        let step = STEPS[random.below(STEPS.len())];
        let passes = random.below(2) * random.below(12);
        let options = options(&mut random);
        if random.one_in(3) {
            // Else the last batch is known to have been synced, and not written again.
            let _ = std::fs::remove_file(dir.path().join("synced"));
        }
        fail::cfg(step, &format!("{passes}*off->return(broken)")).unwrap();
        let (acked, mut issued) = (Arc::new(AtomicUsize::new(0)), 0);
        let mut history = vec![state.clone()];
        match LogStore::open(dir.path(), options.clone()) {
            Ok(log) => {
                while log.poisoned().is_none() && issued < 60 {
                    let write = Step::random(&state, &mut random);
                    write.note(&mut state);
                    history.push(state.clone());
                    issued += 1;
                    let acks = Arc::clone(&acked);
                    let done = Box::new(move |result: Result<(), _>| {
                        not_refused(&result);
                        acks.fetch_add(usize::from(result.is_ok()), Ordering::SeqCst);
                    });
                    write.write(&log, done);
                    if random.one_in(3) {
                        let _ = wait(|done| log.barrier(done));
                    }
                }
                if let Some(error) = log.poisoned() {
                    assert!(error.to_string().contains("broken"), "{error}");
                    assert_eq!(log.group(1), Err(error.clone()));
                    assert_eq!(wait(|done| log.barrier(done)), Err(error));
                    *failed.entry(step).or_insert(0) += 1;
                }
            }
            Err(error) => {
                assert!(error.to_string().contains("broken"), "{error}");
                *failed.entry(step).or_insert(0) += 1;
            }
        }
        fail::remove(step);
        let log = LogStore::open(dir.path(), options).unwrap();
        state = state_of(&log).unwrap();
        let acked = acked.load(Ordering::SeqCst);
        assert!(
            history[acked..=issued].contains(&state),
            "after {step}, with {acked} of {issued} reported"
        );
    }
    assert_eq!(failed.len(), STEPS.len(), "{failed:?}");
    scenario.teardown();
}
