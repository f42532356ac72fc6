//! CPU and memory of a process, read from /proc.

use std::{fs, time::Duration};

use anyhow::Context;

/// A process: this one or another.
#[derive(Clone, Debug)]
pub struct Process {
    folder: String,
}

/// CPU time since the start of a process, all threads, also ended ones.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cpu {
    /// Seconds in user mode.
    pub user: f64,
    /// Seconds in the kernel.
    pub system: f64,
}

impl Cpu {
    /// User and system together.
    pub fn total(self) -> f64 {
        self.user + self.system
    }

    /// What was used since `earlier`.
    pub fn since(self, earlier: Self) -> Self {
        Self { user: self.user - earlier.user, system: self.system - earlier.system }
    }
}

impl Process {
    /// This process.
    pub fn own() -> Self {
        Self { folder: "/proc/self".into() }
    }

    /// Another process.
    pub fn other(pid: u32) -> Self {
        Self { folder: format!("/proc/{pid}") }
    }

    /// The thread that asks, as if it were a process.
    pub fn own_thread() -> Self {
        Self { folder: "/proc/thread-self".into() }
    }

    /// CPU time so far.
    ///
    /// # Errors
    /// The process is gone.
    pub fn cpu(&self) -> anyhow::Result<Cpu> {
        let stat = self.read("stat")?;
        // The command's name stands in brackets and may hold anything; field 3 follows its last bracket.
        let after = stat.rsplit_once(") ").map_or("", |(_, after)| after);
        let ticks: Vec<f64> = after.split(' ').skip(11).take(2).filter_map(|field| field.parse().ok()).collect();
        let per_second = rustix::param::clock_ticks_per_second() as f64;
        match ticks[..] {
            [user, system] => Ok(Cpu { user: user / per_second, system: system / per_second }),
            _ => anyhow::bail!("cannot find the CPU times in {}/stat", self.folder),
        }
    }

    /// CPU time so far of the threads that there are now, to the nanosecond: for what takes less than the 10 ms that [`Process::cpu`]
    /// counts in.
    ///
    /// # Errors
    /// The process is gone.
    pub fn cpu_of_threads(&self) -> anyhow::Result<Duration> {
        let folder = format!("{}/task", self.folder);
        let mut nanos = 0;
        for task in fs::read_dir(&folder).with_context(|| format!("cannot read {folder}; check that the process runs"))? {
            // A thread may end meanwhile.
            let Ok(text) = fs::read_to_string(task?.path().join("schedstat")) else { continue };
            let on_cpu = text.split(' ').next().and_then(|number| number.parse::<u64>().ok());
            nanos += on_cpu.with_context(|| format!("cannot find the CPU time in {folder}/*/schedstat"))?;
        }
        Ok(Duration::from_nanos(nanos))
    }

    /// CPU time so far of the thread that asks, to the nanosecond.
    ///
    /// # Errors
    /// Only where there is no /proc.
    pub fn cpu_of_own_thread() -> anyhow::Result<Duration> {
        let text = Self::own_thread().read("schedstat")?;
        let on_cpu = text.split(' ').next().and_then(|number| number.parse::<u64>().ok());
        Ok(Duration::from_nanos(on_cpu.context("cannot find the CPU time in /proc/thread-self/schedstat")?))
    }

    /// Resident memory now, bytes.
    ///
    /// # Errors
    /// The process is gone.
    pub fn resident(&self) -> anyhow::Result<u64> {
        self.status("VmRSS:")
    }

    /// The most resident memory that the process ever had, bytes.
    ///
    /// # Errors
    /// The process is gone.
    pub fn resident_peak(&self) -> anyhow::Result<u64> {
        self.status("VmHWM:")
    }

    fn status(&self, key: &str) -> anyhow::Result<u64> {
        let status = self.read("status")?;
        let line = status.lines().find_map(|line| line.strip_prefix(key));
        let kib = line.and_then(|rest| rest.split_whitespace().next()).and_then(|number| number.parse::<u64>().ok());
        kib.map(|kib| kib * 1024).with_context(|| format!("cannot find {key} in {}/status", self.folder))
    }

    fn read(&self, file: &str) -> anyhow::Result<String> {
        let path = format!("{}/{file}", self.folder);
        fs::read_to_string(&path).with_context(|| format!("cannot read {path}; check that the process runs"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scenario: a thread of this process works for a while. Guarantee: its CPU time grows, as part of that of the process; the memory is
    /// plausible.
    #[test]
    fn own_figures_are_plausible() {
        let own = Process::own();
        let before = own.cpu().unwrap();
        let mut x = 1_u64;
        // Both are counted in ticks, and on a busy machine not all of them are seen.
        let mut thread = Process::own_thread().cpu().unwrap();
        while own.cpu().unwrap().since(before).total() < 0.02 || thread.total() == 0.0 {
            x = (0..100_000).fold(x, |x, i| x.wrapping_mul(31).wrapping_add(i));
            thread = Process::own_thread().cpu().unwrap();
        }
        assert!(thread.total() <= own.cpu().unwrap().total() + 0.5);
        assert!(own.cpu_of_threads().unwrap() > Duration::ZERO);
        assert!(x != 0 && own.resident().unwrap() > 1 << 20);
        assert!(own.resident_peak().unwrap() >= own.resident().unwrap());
    }
}
