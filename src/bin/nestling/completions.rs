//! `nestling completions`: what makes a shell complete the tool's commands and options.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::failure::Failure;
use crate::{Cli, output};

/// Print a script of completions for a shell
///
/// For bash, say: nestling completions bash > ~/.local/share/bash-completion/completions/nestling
#[derive(Args)]
pub(crate) struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    pub(crate) fn run(&self) -> Result<(), Failure> {
        // Not straight to standard output: clap_complete would panic where that is closed.
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "nestling", &mut script);
        output::line(String::from_utf8_lossy(&script).trim_end())
    }
}
