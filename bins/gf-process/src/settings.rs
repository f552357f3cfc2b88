//! Settings: a flag beats its `GF_…` variable, the variable beats `goflow.toml`, and that beats the default.
//!
//! The file is `goflow.toml` in the working directory, or the one named by `--config` or `GF_CONFIG`. It has one
//! key for every flag that has a variable, named like the flag: `num-workers = 8`. One file serves all programs of
//! a deployment, so a key that only another program has is passed over; a key that none has is an error.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::exit;

use clap::{Arg, ArgAction, Command, CommandFactory, Parser};

mod file;
mod keys;

use file::File;
pub use keys::KEYS;

/// The exit code of a mistake in the settings: the one clap uses.
const USAGE: i32 = 2;

const DEFAULT_FILE: &str = "goflow.toml";
const CONFIG: &str = "config";
const CONFIG_VARIABLE: &str = "GF_CONFIG";

/// The settings of this process. Prints help, the version or what is wrong and ends the process where clap would.
pub fn parse<A: Parser>() -> A {
    match read(env::args_os(), env::var_os(CONFIG_VARIABLE)) {
        Ok(args) => args,
        Err(Error::Clap(error)) => error.exit(),
        Err(Error::File(line)) => {
            eprintln!("{}: {line}", A::command().get_name());
            exit(USAGE)
        }
    }
}

/// The settings of this program that [`KEYS`] does not list. For a test in each program: it must be empty, or the
/// other programs would refuse a file that sets them.
pub fn unlisted<A: CommandFactory>() -> Vec<String> {
    let mut names = names(&A::command());
    names.retain(|name| !KEYS.contains(&name.as_str()));
    names
}

#[derive(Debug)]
enum Error {
    Clap(clap::Error),
    /// One line about the file.
    File(String),
}

fn read<A: Parser>(
    args: impl IntoIterator<Item = OsString>,
    config: Option<OsString>,
) -> Result<A, Error> {
    let args: Vec<OsString> = args.into_iter().collect();
    let mut command = hide_values(with_config(A::command()));
    // Without the file first, forgiving: the command line may say where the file is and lack what the file has.
    let first = command
        .clone()
        .ignore_errors(true)
        .try_get_matches_from(&args);
    // An error here is the wish for help or the version, to which the file adds nothing.
    if let Ok(matches) = first {
        let named = matches
            .get_one::<PathBuf>(CONFIG)
            .cloned()
            .or(config.map(PathBuf::from));
        let file = match named {
            Some(path) => Some(File::open(&path).map_err(Error::File)?),
            None => File::open_if_there(DEFAULT_FILE.as_ref()).map_err(Error::File)?,
        };
        if let Some(file) = file {
            command = with_file(command, &file).map_err(Error::File)?;
        }
    }
    let mut matches = command
        .clone()
        .try_get_matches_from(&args)
        .map_err(Error::Clap)?;
    A::from_arg_matches_mut(&mut matches).map_err(|error| Error::Clap(error.format(&mut command)))
}

fn with_file(command: Command, file: &File) -> Result<Command, String> {
    file.check_keys(&names(&command))?;
    file.set_defaults(command)
}

/// The settings of a program whose file holds `text`, for `tests/fuzz`.
#[doc(hidden)]
pub fn from_text<A: Parser>(args: &[&str], text: &str) -> Result<A, String> {
    let file = File::parse(DEFAULT_FILE.as_ref(), text)?;
    let command = hide_values(with_config(A::command()));
    let matches = with_file(command, &file)?.try_get_matches_from(args);
    let parsed = matches.and_then(|mut matches| A::from_arg_matches_mut(&mut matches));
    parsed.map_err(|error| error.to_string())
}

fn with_config(command: Command) -> Command {
    command.arg(
        Arg::new(CONFIG)
            .long(CONFIG)
            .env(CONFIG_VARIABLE)
            .value_name("FILE")
            .value_parser(clap::value_parser!(PathBuf))
            .action(ArgAction::Set)
            .global(true)
            .help("A file of settings, a key for each flag [default: goflow.toml in the working directory, if there]"),
    )
}

/// Keeps values of variables out of the help: some are secret.
fn hide_values(command: Command) -> Command {
    command
        .mut_args(|arg| arg.hide_env_values(true))
        .mut_subcommands(hide_values)
}

/// Whether an argument is a setting: what concerns one call only has no variable.
fn is_setting(arg: &Arg) -> bool {
    arg.get_long().is_some_and(|long| long != CONFIG) && arg.get_env().is_some()
}

/// The keys this program and its subcommands have.
fn names(command: &Command) -> Vec<String> {
    let own = command
        .get_arguments()
        .filter(|arg| is_setting(arg))
        .filter_map(Arg::get_long)
        .map(str::to_owned);
    let mut names: Vec<String> = own
        .chain(command.get_subcommands().flat_map(names))
        .collect();
    names.sort();
    names.dedup();
    names
}

#[cfg(test)]
mod tests;
