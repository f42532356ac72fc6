//! The command line.

use std::path::PathBuf;

/// Flags of the `meshlake` binary; they win over the environment, which wins over the file.
#[derive(Clone, Debug, Default, clap::Parser)]
#[command(name = "meshlake", version, about = "A tracing lakehouse for service meshes")]
pub struct Cli {
    /// Read settings from this YAML file
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Keep the journal and, unless storage.url says otherwise, the Parquet files in this folder
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,

    /// Also send a self-made Bookinfo-shaped span stream through the own OTLP port
    #[arg(long)]
    pub demo: bool,

    /// Print the settings in force as YAML, secrets masked, and exit
    #[arg(long)]
    pub print_config: bool,

    /// What to do instead of serving
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What the binary does besides serving.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::Subcommand)]
pub enum Command {
    /// Read the whole data folder and say what is wrong with it; changes nothing
    Check,
    /// Drop what `check` finds wrong, and list it: files that are missing or can't be read, segments that are none
    Repair,
    /// Merge fresh files of the object store into the lake, also while servers run on it; takes no spans, answers no queries
    Compact {
        /// End when nothing is due
        #[arg(long)]
        once: bool,
    },
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    /// Scenario: the whole command line. Guarantee: clap accepts its definition and each flag lands in its field.
    #[test]
    fn flags_parse() {
        Cli::command().debug_assert();
        let cli = Cli::parse_from(["meshlake", "--config", "a.yaml", "--data-dir", "d", "--demo", "--print-config"]);
        assert_eq!(cli.config, Some("a.yaml".into()));
        assert_eq!(cli.data_dir, Some("d".into()));
        assert!(cli.demo && cli.print_config);
        let cli = Cli::parse_from(["meshlake", "--data-dir", "d", "check"]);
        assert_eq!((cli.data_dir, cli.command), (Some("d".into()), Some(Command::Check)));
        assert_eq!(Cli::parse_from(["meshlake", "compact", "--once"]).command, Some(Command::Compact { once: true }));
    }
}
