//! What the size of the file costs: ours over a small and a large one, in the same rounds.

use std::path::Path;
use std::time::Duration;

use crate::figures::median;
use crate::process::Server;
use crate::{Options, data, load, say};

/// How long a server is asked before it is measured, in lengths of a measurement: until the pages of a large file are
/// in the kernel's memory and in the tables of the server's.
const WARM_UP: u32 = 20;

pub(crate) fn compare(options: &Options) {
    let scratch = tempfile::tempdir().unwrap();
    let folder = options.folder.as_deref().unwrap_or(scratch.path());
    let servers: Vec<(u64, Server)> = options
        .sizes
        .iter()
        .map(|&rows| {
            let file = data::file(folder, rows);
            read_through(&file);
            (rows, Server::sessile(&file))
        })
        .collect();
    let duration = Duration::from_secs_f64(options.seconds);
    let ask = |(rows, server): &(u64, Server), duration| {
        let users = rows / data::SESSIONS_A_USER;
        let before = server.processor_time();
        let seen = load::closed(&server.address, users, options.connections, duration);
        let processor = server.processor_time() - before;
        [
            seen.requests as f64 / seen.seconds,
            processor.as_secs_f64() * 1e6 / seen.requests as f64,
        ]
    };
    for server in &servers {
        ask(server, duration * WARM_UP);
    }

    let mut rounds: Vec<Vec<[f64; 2]>> = Vec::new();
    for round in 1..=options.rounds {
        // Forwards and backwards by turns, so that what changes with time favours none.
        let mut order: Vec<usize> = (0..servers.len()).collect();
        if round % 2 == 0 {
            order.reverse();
        }
        let mut figures = vec![[0.0; 2]; servers.len()];
        for index in order {
            figures[index] = ask(&servers[index], duration);
        }
        rounds.push(figures);
    }

    say(&format!(
        "\nmedians of {} rounds of {} s, {} connections; in parentheses the median of the rounds' ratios to the first row, \
         and the least and the most of them\n",
        options.rounds, options.seconds, options.connections
    ));
    say("| rows | requests/s | processor time a request |");
    say("| --- | --- | --- |");
    for (index, (rows, _)) in servers.iter().enumerate() {
        let cell = |unit: &str, figure: usize| {
            let value = median(rounds.iter().map(|round| round[index][figure]));
            let ratios = || {
                rounds
                    .iter()
                    .map(|round| round[index][figure] / round[0][figure])
            };
            format!(
                "{value:.2} {unit} ({:.3}, {:.3} to {:.3})",
                median(ratios()),
                ratios().fold(f64::INFINITY, f64::min),
                ratios().fold(0.0, f64::max)
            )
        };
        say(&format!("| {rows} | {} | {} |", cell("", 0), cell("µs", 1)));
    }
}

/// Has the kernel hold all of a file.
fn read_through(path: &Path) {
    let mut file = std::fs::File::open(path).unwrap();
    std::io::copy(&mut file, &mut std::io::sink()).unwrap();
}
