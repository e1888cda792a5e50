//! The allocator and its settings. It serves RocksDB too.

use std::sync::atomic::{AtomicPtr, Ordering};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Without threads of its own the allocator gives memory back only when somebody allocates: a node whose queues were emptied during
/// a memory alarm would keep it, and the alarm with it. One arena for each processor and a second until memory goes back, instead
/// of four and ten: a backlog that is being filled takes a quarter less memory and no more time.
macro_rules! settings {
    ($arenas:literal) => {
        concat!(
            "background_thread:true,",
            $arenas,
            ",dirty_decay_ms:1000,muzzy_decay_ms:0\0"
        )
    };
}

/// Settings that the allocator looks up by this name before it gives out the first byte.
#[expect(
    unsafe_code,
    reason = "the name is one that the allocator reserves for this"
)]
#[unsafe(export_name = "malloc_conf")]
pub(crate) static SETTINGS: AtomicPtr<u8> =
    AtomicPtr::new(settings!("percpu_arena:percpu").as_ptr().cast_mut());

/// The same for a process that has not all processors that the machine may have, as in a container that is pinned to some, or on
/// a virtual machine that can be given more: there the allocator knows no arenas by processor, says so on standard error at every
/// start of the program, and makes four for each. By their number.
const BY_NUMBER: &[(usize, &str)] = &[
    (1, settings!("narenas:1")),
    (2, settings!("narenas:2")),
    (4, settings!("narenas:4")),
    (8, settings!("narenas:8")),
    (16, settings!("narenas:16")),
    (32, settings!("narenas:32")),
    (usize::MAX, settings!("narenas:64")),
];

/// Runs before anything of a library does, so before the first allocation.
#[cfg(target_os = "linux")]
#[expect(
    unsafe_code,
    reason = "there is no other place that comes before the allocator reads its settings"
)]
#[used]
#[unsafe(link_section = ".preinit_array")]
static BEFORE_ALL: extern "C" fn() = choose;

/// Must not allocate.
#[cfg(target_os = "linux")]
extern "C" fn choose() {
    let Some((mine, all)) = processors() else {
        return;
    };
    if mine == all {
        return;
    }
    if let Some((_, settings)) = BY_NUMBER.iter().find(|(most, _)| mine <= *most) {
        SETTINGS.store(settings.as_ptr().cast_mut(), Ordering::Relaxed);
    }
}

/// Processors that this process may use, and those that the machine may have: the least and the most that the allocator would
/// find. `None` where that cannot be told.
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "libc, which asks the kernel and nobody else")]
fn processors() -> Option<(usize, usize)> {
    // SAFETY: a set of processors is plain bits, and no bit is a valid set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the set is as long as is said.
    let told = unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set) };
    if told != 0 {
        return None;
    }
    // SAFETY: it counts the bits.
    let mine = usize::try_from(unsafe { libc::CPU_COUNT(&set) }).ok()?;
    // SAFETY: takes a number and gives one.
    let [configured, online] = [libc::_SC_NPROCESSORS_CONF, libc::_SC_NPROCESSORS_ONLN]
        .map(|what| usize::try_from(unsafe { libc::sysconf(what) }).unwrap_or(0));
    let same = configured == online;
    Some((mine, if same { configured } else { usize::MAX }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_end() {
        for (_, settings) in BY_NUMBER {
            assert!(settings.ends_with('\0') && settings.starts_with("background_thread:true,"));
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn processors_are_counted() {
        let (mine, all) = processors().expect("the kernel tells");
        assert!(mine >= 1 && mine <= all);
    }
}
