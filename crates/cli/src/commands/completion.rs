//! `completion`.

use crate::client::Failure;
use clap::{Args, Command};
use clap_complete::Shell;
use std::io::{self, Write};

/// `warren completion`
#[derive(Debug, Args)]
pub(super) struct Completion {
    /// Shell
    #[arg(value_enum)]
    shell: Shell,
}

impl Completion {
    pub(super) fn print(self, mut command: Command) -> Result<(), Failure> {
        // Through memory: the generator panics when its writer fails.
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut command, "warren", &mut script);
        Ok(io::stdout().lock().write_all(&script)?)
    }
}
