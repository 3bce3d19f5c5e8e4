//! `ottla completions`: what a shell needs to complete our commands.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::Arguments;

/// Flags of `ottla completions`.
#[derive(Args, Debug)]
pub struct CompletionsArguments {
    /// The shell, for example `bash`: `ottla completions bash > /etc/bash_completion.d/ottla`.
    shell: Shell,
}

/// Prints the completions.
pub fn run(arguments: &CompletionsArguments) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Arguments::command(), "ottla", &mut script);
    std::io::Write::write_all(&mut std::io::stdout().lock(), &script)?;
    Ok(())
}
