//! `cargo bench`: this server beside a bare hyper server with a constant answer, in rounds on loopback.
//!
//! These machines are shared and noisy, so nothing here is an absolute figure: every round measures each server
//! in turn, and what counts is the median over the rounds of the ratio to the bare server in the same round.
//!
//!     cargo bench                                 1,000,000 rows, 7 rounds of 2 s
//!     cargo bench -- --rows 20000000 --rounds 3   other sizes

#![allow(clippy::print_stdout, reason = "what a benchmark is for")]
#![allow(clippy::unwrap_used, reason = "a benchmark that fails has no figures")]

mod bare;
mod data;
mod load;
mod process;

use std::time::Duration;

use process::Server;

/// What to measure.
struct Options {
    rows: u64,
    rounds: usize,
    seconds: f64,
    connections: usize,
    rate: u64,
}

fn main() {
    let args: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| arg != "--bench")
        .collect();
    match args.first().map(String::as_str) {
        Some("bare") => bare::run(),
        Some("load") => load::run(&args[1..]),
        _ => compare(&options(&args)),
    }
}

fn options(args: &[String]) -> Options {
    let mut options = Options {
        rows: 1_000_000,
        rounds: 7,
        seconds: 2.0,
        connections: 32,
        rate: 20_000,
    };
    for pair in args.chunks(2) {
        let [name, value] = pair else {
            panic!("{pair:?} has no value")
        };
        match name.as_str() {
            "--rows" => options.rows = value.parse().unwrap(),
            "--rounds" => options.rounds = value.parse().unwrap(),
            "--seconds" => options.seconds = value.parse().unwrap(),
            "--connections" => options.connections = value.parse().unwrap(),
            "--rate" => options.rate = value.parse().unwrap(),
            _ => {
                panic!("{name:?} is none of --rows, --rounds, --seconds, --connections and --rate")
            }
        }
    }
    options
}

/// One server's figures of one round.
#[derive(Clone, Copy)]
struct Figures {
    /// Requests a second, as fast as the connections go.
    throughput: f64,
    /// Processor time a request, in microseconds.
    processor: f64,
    /// Latencies at the fixed rate, in microseconds.
    p50: f64,
    p99: f64,
    /// Anonymous resident memory, in MB.
    memory: f64,
}

fn compare(options: &Options) {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("bench.db");
    say(&format!("filling a file with {} rows", options.rows));
    data::fill(&database, options.rows);
    let users = options.rows / data::SESSIONS_A_USER;
    let servers = [
        ("bare hyper", Server::bare()),
        ("sessile", Server::sessile(&database)),
    ];
    for (_, server) in &servers {
        let answers = load::closed(
            &server.address,
            users,
            options.connections,
            Duration::from_millis(500),
        );
        assert!(answers.requests > 0, "no answer");
    }

    let mut rounds: Vec<Vec<Figures>> = Vec::new();
    for round in 1..=options.rounds {
        let figures: Vec<Figures> = servers
            .iter()
            .map(|(_, server)| measure(server, users, options))
            .collect();
        let [bare, ours] = figures[..] else {
            unreachable!("there are two servers")
        };
        say(&format!(
            "round {round}: {:.0} and {:.0} requests/s ({:.2}), {:.2} and {:.2} µs ({:.2}), p99 {:.0} and {:.0} µs ({:.2})",
            bare.throughput,
            ours.throughput,
            ours.throughput / bare.throughput,
            bare.processor,
            ours.processor,
            ours.processor / bare.processor,
            bare.p99,
            ours.p99,
            ours.p99 / bare.p99,
        ));
        rounds.push(figures);
    }

    say(&format!(
        "\nmedians of {} rounds of {} s, {} connections, {} rows; in parentheses the median of the rounds' ratios to bare hyper\n",
        options.rounds, options.seconds, options.connections, options.rows
    ));
    say(
        "| server | requests/s | processor time a request | p50 at fixed rate | p99 at fixed rate | RssAnon |",
    );
    say("| --- | --- | --- | --- | --- | --- |");
    for (index, (name, _)) in servers.iter().enumerate() {
        let cell = |unit: &str, figure: fn(&Figures) -> f64| {
            let value = median(rounds.iter().map(|round| figure(&round[index])));
            let ratio = median(
                rounds
                    .iter()
                    .map(|round| figure(&round[index]) / figure(&round[0])),
            );
            format!("{value:.1} {unit} ({ratio:.2})")
        };
        say(&format!(
            "| {name} | {} | {} | {} | {} | {} |",
            cell("", |figures| figures.throughput),
            cell("µs", |figures| figures.processor),
            cell("µs", |figures| figures.p50),
            cell("µs", |figures| figures.p99),
            cell("MB", |figures| figures.memory),
        ));
    }
}

fn measure(server: &Server, users: u64, options: &Options) -> Figures {
    let duration = Duration::from_secs_f64(options.seconds);
    let before = server.processor_time();
    let closed = load::closed(&server.address, users, options.connections, duration);
    let processor = server.processor_time() - before;
    let open = load::open(
        &server.address,
        users,
        options.connections,
        options.rate,
        duration,
    );
    Figures {
        throughput: closed.requests as f64 / closed.seconds,
        processor: processor.as_secs_f64() * 1e6 / closed.requests as f64,
        p50: open.p50,
        p99: open.p99,
        memory: server.anonymous_memory() as f64 / 1e6,
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 {
        values[middle]
    } else {
        (values[middle - 1] + values[middle]) / 2.0
    }
}

fn say(line: &str) {
    println!("{line}");
}
