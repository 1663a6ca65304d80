//! What every Prometheus client tells of its process, by the names that all of them use
//! (<https://prometheus.io/docs/instrumenting/writing_clientlibs/#process-metrics>).

use std::fmt;
use std::fs;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use rustix::param::page_size;
use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

use super::{counter, gauge, seconds};
use crate::time::Timestamp;

/// This process, as it is when this is made.
#[derive(Debug)]
pub(super) struct Process {
    started_at: Timestamp,
    cpu_seconds: f64,
    /// The whole address space and what of it is in memory, in bytes.
    memory: Option<(u64, u64)>,
    open_files: Option<usize>,
    most_files: Option<u64>,
}

impl Process {
    pub(super) fn new(started_at: Timestamp) -> Self {
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        Self {
            started_at,
            cpu_seconds: cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9,
            memory: memory(),
            // Less the one that the folder is read by.
            open_files: fs::read_dir("/proc/self/fd")
                .ok()
                .map(|files| files.count().saturating_sub(1)),
            most_files: getrlimit(Resource::Nofile).current,
        }
    }
}

/// proc(5): the first two numbers of `statm` are pages.
fn memory() -> Option<(u64, u64)> {
    let pages = fs::read_to_string("/proc/self/statm").ok()?;
    let mut pages = pages
        .split(' ')
        .map_while(|number| number.parse::<u64>().ok());
    let mut bytes = || Some(pages.next()? * page_size() as u64);
    Some((bytes()?, bytes()?))
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let encoder = &mut encoder;
        gauge(
            encoder,
            "process_start_time_seconds",
            "When the process started",
            seconds(self.started_at),
        )?;
        let help = "Processor time of the process";
        counter(encoder, "process_cpu_seconds", help, self.cpu_seconds)?;
        if let Some((all, resident)) = self.memory {
            let help = "The address space of the process";
            gauge(encoder, "process_virtual_memory_bytes", help, all)?;
            let help = "What of the address space is in memory, pages of the data file included";
            gauge(encoder, "process_resident_memory_bytes", help, resident)?;
        }
        if let Some(open) = self.open_files {
            gauge(encoder, "process_open_fds", "Open file descriptors", open)?;
        }
        if let Some(most) = self.most_files {
            let help = "The limit of open file descriptors";
            gauge(encoder, "process_max_fds", help, most as f64)?;
        }
        Ok(())
    }
}
