//! The `meshlake` binary: reads the configuration, starts the roles, and stops them in order.
//!
//! Exit codes: 0 stopped as asked, 1 anything else, 2 configuration, 3 a port is in use, 4 the data folder or object store
//! can't be used, 5 another process has the data folder, 6 `meshlake check` found something wrong.

mod check;
mod compact;
mod demo;
mod failure;
mod logging;
mod server;
mod signals;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use meshlake_config::{Cli, Command, Config};

use crate::failure::Failure;

// glibc's allocator keeps what the flush frees: twice the memory after an hour.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let _ = writeln!(io::stderr(), "meshlake: {failure}");
            failure.exit_code()
        }
    }
}

fn run(cli: &Cli) -> Result<(), Failure> {
    let config = Config::load(cli)?;
    if cli.print_config {
        print!("{}", config.to_yaml()?);
        return Ok(());
    }
    logging::start(&config.log);
    match cli.command {
        None => server::run(&config, cli.demo),
        Some(Command::Check) => check::check(&config),
        Some(Command::Repair) => check::repair(&config),
        Some(Command::Compact { once }) => compact::run(&config, once),
    }
}
