//! The file of settings.

use std::error::Error as _;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use clap::error::{ContextKind, ContextValue};
use clap::{Arg, ArgAction, Command};
use toml::{Table, Value};

use super::{KEYS, is_setting};
use crate::line::one_line;

/// Settings read from a file. Errors are one line for people, the file's name in front.
#[derive(Debug)]
pub(super) struct File {
    path: PathBuf,
    table: Table,
}

impl File {
    pub(super) fn open(path: &Path) -> Result<Self, String> {
        match Self::open_if_there(path)? {
            Some(file) => Ok(file),
            None => Err(format!("{}: there is no such file", path.display())),
        }
    }

    pub(super) fn open_if_there(path: &Path) -> Result<Option<Self>, String> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(format!("{}: {error}", path.display())),
        };
        Self::parse(path, &text).map(Some)
    }

    /// The settings that are the text of a file.
    pub(super) fn parse(path: &Path, text: &str) -> Result<Self, String> {
        let table = text.parse::<Table>().map_err(|error| {
            let line = error
                .span()
                .map_or(1, |span| text[..span.start].lines().count().max(1));
            let reason = error.message().replace('\n', ", ");
            one_line(&format!("{}: line {line}: {reason}", path.display()))
        })?;
        Ok(Self {
            path: path.to_owned(),
            table,
        })
    }

    pub(super) fn check_keys(&self, own: &[String]) -> Result<(), String> {
        let known = |key: &String| own.contains(key) || KEYS.contains(&key.as_str());
        match self.table.keys().find(|key| !known(key)) {
            None => Ok(()),
            Some(key) => Err(self.error(
                key,
                "unknown key; keys are named like flags, without the dashes in front",
            )),
        }
    }

    /// Makes the values of the file the defaults of their flags, in subcommands too.
    pub(super) fn set_defaults(&self, mut command: Command) -> Result<Command, String> {
        let settings: Vec<Arg> = command
            .get_arguments()
            .filter(|arg| is_setting(arg))
            .cloned()
            .collect();
        for arg in settings {
            let Some(key) = arg.get_long() else { continue };
            let Some(value) = self.table.get(key) else {
                continue;
            };
            let values = texts(value, &arg)
                .ok_or_else(|| self.error(key, "a table or a date says nothing here"))?;
            for value in &values {
                check(&arg, value).map_err(|reason| self.error(key, &reason))?;
            }
            // Clap wants texts for the life of the process, which is how long settings live.
            let values = values
                .into_iter()
                .map(|value| &*value.leak())
                .collect::<Vec<&'static str>>();
            // Not required any more, since a default does not count as given.
            command = command.mut_arg(arg.get_id(), |arg| {
                arg.required(false).default_values(values)
            });
        }
        let subcommands: Vec<String> = command
            .get_subcommands()
            .map(|sub| sub.get_name().to_owned())
            .collect();
        for name in subcommands {
            let Some(subcommand) = command.find_subcommand(&name).cloned() else {
                continue;
            };
            let subcommand = self.set_defaults(subcommand)?;
            command = command.mut_subcommand(name, |_| subcommand);
        }
        Ok(command)
    }

    fn error(&self, key: &str, reason: &str) -> String {
        one_line(&format!("{}: `{key}`: {reason}", self.path.display()))
    }
}

/// A value as one would write it on the command line.
fn texts(value: &Value, arg: &Arg) -> Option<Vec<String>> {
    match value {
        Value::String(text) => Some(match arg.get_value_delimiter() {
            Some(delimiter) => text.split(delimiter).map(str::to_owned).collect(),
            None => vec![text.clone()],
        }),
        Value::Integer(number) => Some(vec![number.to_string()]),
        Value::Float(number) => Some(vec![number.to_string()]),
        Value::Boolean(truth) => Some(vec![truth.to_string()]),
        Value::Array(values) if arg.get_value_delimiter().is_some() => values
            .iter()
            .map(|value| texts(value, arg))
            .collect::<Option<Vec<_>>>()
            .map(|all| all.concat()),
        Value::Array(_) | Value::Datetime(_) | Value::Table(_) => None,
    }
}

/// Whether the flag would take the value. Clap trusts defaults: it panics at wrong ones, or blames the flag.
fn check(arg: &Arg, value: &str) -> Result<(), String> {
    let probe = Arg::new("value")
        .long("value")
        .action(ArgAction::Set)
        .value_parser(arg.get_value_parser().clone());
    let Err(error) = Command::new("check")
        .arg(probe)
        .try_get_matches_from(["check", &format!("--value={value}")])
    else {
        return Ok(());
    };
    Err(match (error.source(), error.get(ContextKind::ValidValue)) {
        (Some(reason), _) => reason.to_string().replace('\n', ", "),
        (None, Some(ContextValue::Strings(valid))) => format!("use one of {}", valid.join(", ")),
        _ => "not a value for it".to_owned(),
    })
}
