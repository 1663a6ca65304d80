//! `cargo bench`: this server beside a bare hyper server with a constant answer, in rounds on loopback.
//!
//! These machines are shared and noisy, so nothing here is an absolute figure: every round measures each server
//! in turn, and what counts is the median over the rounds of the ratio to the bare server in the same round.
//!
//!     cargo bench                                 1,000,000 rows, 7 rounds of 2 s
//!     cargo bench -- --rows 20000000 --rounds 3   other sizes
//!     cargo bench -- --nginx 1                    nginx with a constant answer beside them, where it is installed
//!     cargo bench -- --axum 1 --fastify 1         axum + sqlx and fastify + better-sqlite3 over the same file; the number
//!                                                 of fastify is that of its processes
//!     cargo bench -- sizes                        ours over 10,000 and over 20,000,000 rows, in the same rounds
//!     cargo bench -- sizes --sizes 1000,100000    over others
//!     cargo bench -- --folder DIR                 the files of rows are made, kept and found again there
//!     cargo bench -- beside                       ours beside a writer, a heavy user, and 10,000 idle connections
//!     cargo bench -- stalled                      ours beside 10,000 callers that stall
//!     cargo bench -- tls                          ours with TLS beside ours without: requests and handshakes
//!     cargo bench -- instructions                 instructions a request, by callgrind; fails where they have grown

#![allow(clippy::print_stdout, reason = "what a benchmark is for")]
#![allow(clippy::unwrap_used, reason = "a benchmark that fails has no figures")]

mod answers;
mod bare;
mod beside;
mod data;
mod figures;
mod instructions;
mod load;
mod peers;
mod process;
mod sizes;
mod stalled;
mod tls;

use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use figures::median;
use process::Server;

/// How long each server is asked before anything is measured: a compiler at run time, fastify's, takes a while.
const WARM_UP: Duration = Duration::from_secs(2);

/// What to measure.
struct Options {
    rows: u64,
    rounds: usize,
    seconds: f64,
    connections: usize,
    rate: u64,
    nginx: bool,
    axum: bool,
    /// How many processes; 0 for none.
    fastify: usize,
    /// Numbers of rows to compare.
    sizes: Vec<u64>,
    /// Where files are kept; a temporary folder where there is none.
    folder: Option<PathBuf>,
}

fn main() {
    let args: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| arg != "--bench")
        .collect();
    match args.first().map(String::as_str) {
        Some("bare") => bare::run(),
        Some("load") => load::run(&args[1..]),
        Some("instructions") => instructions::check(),
        Some("sizes") => sizes::compare(&options(&args[1..])),
        Some("stalled") => stall(&options(&args[1..])),
        Some("tls") => tls::compare(&options(&args[1..])),
        Some("beside") => disturb(&options(&args[1..])),
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
        nginx: false,
        axum: false,
        fastify: 0,
        sizes: vec![10_000, 20_000_000],
        folder: None,
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
            "--nginx" => options.nginx = value != "0",
            "--axum" => options.axum = value != "0",
            "--fastify" => options.fastify = value.parse().unwrap(),
            "--sizes" => {
                options.sizes = value.split(',').map(|rows| rows.parse().unwrap()).collect();
            }
            "--folder" => options.folder = Some(PathBuf::from(value)),
            _ => {
                panic!(
                    "{name:?} is none of --rows, --rounds, --seconds, --connections, --rate, --nginx, --axum, --fastify, \
                     --sizes and --folder"
                )
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
    let scratch = tempfile::tempdir().unwrap();
    let folder = options.folder.as_deref().unwrap_or(scratch.path());
    let database = data::file(folder, options.rows);
    let users = options.rows / data::SESSIONS_A_USER;
    let mut servers = vec![
        ("bare hyper", Server::bare()),
        ("sessile", Server::sessile(&database)),
    ];
    servers.extend(peers::start(
        options,
        &database,
        scratch.path(),
        &servers[1].1.address,
    ));
    for (_, server) in &servers {
        let answers = load::closed(&server.address, users, options.connections, WARM_UP);
        assert!(answers.requests > 0, "no answer");
    }

    let mut rounds: Vec<Vec<Figures>> = Vec::new();
    for round in 1..=options.rounds {
        let figures: Vec<Figures> = servers
            .iter()
            .map(|(_, server)| measure(server, users, options))
            .collect();
        let [bare, ours, ..] = figures[..] else {
            unreachable!("there are two servers or more")
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
        "\nmedians of {} rounds of {} s, {} connections, {} rows, fixed rate {}/s; in parentheses the median of the rounds' ratios to bare \
         hyper\n",
        options.rounds, options.seconds, options.connections, options.rows, options.rate
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

/// What ours does while something else goes on, beside what it does without, in rounds.
fn disturb(options: &Options) {
    const COMMITS: u64 = 1_000;
    const IDLE: usize = 10_000;
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("bench.db");
    data::fill(&database, options.rows);
    beside::add_heavy_user(&database, 1_000_000);
    let users = options.rows / data::SESSIONS_A_USER;
    let started = Instant::now();
    let server = Server::sessile(&database);
    say(&format!(
        "ready {:.1} ms after exec",
        started.elapsed().as_secs_f64() * 1e3
    ));
    let duration = Duration::from_secs_f64(options.seconds);
    let closed =
        || load::closed(&server.address, users, options.connections, duration).requests as f64;
    let p99 = || {
        load::open(
            &server.address,
            users,
            options.connections,
            options.rate / 4,
            duration,
        )
        .p99
    };
    closed();

    let (written, heavy) = (beside::Beside::default(), beside::Beside::default());
    let mut rounds = Vec::new();
    for _ in 0..options.rounds {
        let quiet = (closed(), p99());
        let writing = beside::with_writer(&database, &server.address, COMMITS, &written, closed);
        let counting = beside::with_heavy_caller(&server.address, &heavy, p99);
        rounds.push([writing / quiet.0, counting / quiet.1, counting]);
    }
    let figure = |index: usize| median(rounds.iter().map(|round| round[index]));
    say(&format!(
        "requests/s beside a writer of {COMMITS} commits/s: {:.2} of the quiet figure; {} commits, none missed by an answer after it; \
         WAL at most {:.1} MB",
        figure(0),
        written.done.load(Ordering::Relaxed),
        written.longest_wal.load(Ordering::Relaxed) as f64 / 1e6,
    ));
    say(&format!(
        "p99 at {}/s beside a caller who asks for 1,000,000 sessions in a loop ({} answers): {:.0} µs, {:.2} times the quiet one",
        options.rate / 4,
        heavy.done.load(Ordering::Relaxed),
        figure(2),
        figure(1),
    ));
    let idle = beside::idle(&server.address, IDLE);
    let before = server.anonymous_memory();
    std::thread::sleep(Duration::from_secs(5));
    say(&format!(
        "RssAnon with {} idle connections: {:.1} MB at first, {:.1} MB after 5 s",
        idle.len(),
        before as f64 / 1e6,
        server.anonymous_memory() as f64 / 1e6
    ));
}

/// What ours does while callers hold all its connections and give nothing for it, beside what it does without, in
/// rounds. The callers of the load come last, and must each be given the place of one that stalls.
fn stall(options: &Options) {
    const STALLED: usize = 10_000;
    sessile::server::allow_descriptors(STALLED, 1_000);
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("bench.db");
    data::fill(&database, options.rows);
    let users = options.rows / data::SESSIONS_A_USER;
    let server = Server::sessile(&database);
    let (rate, duration) = (options.rate / 4, Duration::from_secs_f64(options.seconds));
    let open = || load::open(&server.address, users, options.connections, rate, duration);
    open();
    let mut ratios = Vec::new();
    for round in 1..=options.rounds {
        let quiet = open();
        let stalled = stalled::open(&server.address, users, STALLED);
        // What stalls has been taken in by then: it is not the storm before that is measured.
        server.settle();
        let before = stalled::still_open(&stalled);
        let beside = open();
        say(&format!(
            "round {round}: p50 {:.0} and {:.0} µs, p99 {:.0} and {:.0} µs ({:.2}); {before} stalled connections at first, {} at last; \
             RssAnon {:.1} MB",
            quiet.p50,
            beside.p50,
            quiet.p99,
            beside.p99,
            beside.p99 / quiet.p99,
            stalled::still_open(&stalled),
            server.anonymous_memory() as f64 / 1e6,
        ));
        ratios.push(beside.p99 / quiet.p99);
        drop(stalled);
        server.settle();
    }
    say(&format!(
        "p99 at {rate}/s beside {STALLED} stalled connections: {:.2} times the quiet one, the median of {} rounds",
        median(ratios.iter().copied()),
        options.rounds
    ));
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

fn say(line: &str) {
    println!("{line}");
}
