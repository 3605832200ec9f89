//! Flags made from the table of settings, so that a setting stands once.

use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Args, Command, Error, FromArgMatches};

use crate::config::{CONFIG_ENV, SETTINGS, Setting, Use};

/// What was given on the command line.
#[derive(Debug, Clone, Default)]
pub(super) struct Given {
    /// `--config`.
    pub(super) config: Option<PathBuf>,
    /// Setting paths with their texts, unchecked.
    pub(super) values: Vec<(&'static str, String)>,
}

/// The flags of `serve`: all settings.
#[derive(Debug, Clone)]
pub(super) struct ServeFlags(pub(super) Given);

/// The flags of commands that only open the store.
#[derive(Debug, Clone)]
pub(super) struct StoreFlags(pub(super) Given);

const CONFIG: &str = "config";

fn is_flag_of_serve(setting: &Setting) -> bool {
    matches!(setting.usage, Use::Store | Use::Serve)
}

fn is_flag_of_store(setting: &Setting) -> bool {
    setting.usage == Use::Store
}

fn augment(command: Command, takes: fn(&Setting) -> bool) -> Command {
    let config = Arg::new(CONFIG)
        .long("config")
        .value_name("FILE")
        .value_parser(clap::value_parser!(PathBuf))
        .help(format!(
            "TOML file with settings; flags and variables win over it. Unknown fields are refused [env: {CONFIG_ENV}]"
        ));
    SETTINGS
        .iter()
        .filter(|setting| takes(setting))
        .fold(command.arg(config), |command, setting| command.arg(flag(setting)))
}

fn flag(setting: &Setting) -> Arg {
    let mut help = format!("{} [env: {}]", setting.help, setting.env);
    if setting.flag != setting.path.replace('_', "-") || setting.path.contains('_') {
        help.push_str(&format!(" [file: {}]", setting.path));
    }
    if let Some(default) = setting.default {
        help.push_str(&format!(" [default: {default}]"));
    }
    Arg::new(setting.path)
        .long(setting.flag)
        .value_name(setting.value)
        .action(ArgAction::Set)
        .help(help)
}

fn collect(matches: &ArgMatches, takes: fn(&Setting) -> bool) -> Given {
    let values = SETTINGS
        .iter()
        .filter(|setting| takes(setting))
        .filter_map(|setting| {
            let text = matches.get_one::<String>(setting.path)?;
            Some((setting.path, text.clone()))
        });
    Given {
        config: matches.get_one::<PathBuf>(CONFIG).cloned(),
        values: values.collect(),
    }
}

macro_rules! flags_from_table {
    ($flags:ident, $takes:ident) => {
        impl FromArgMatches for $flags {
            fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
                Ok(Self(collect(matches, $takes)))
            }

            fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
                self.0 = collect(matches, $takes);
                Ok(())
            }
        }

        impl Args for $flags {
            fn augment_args(command: Command) -> Command {
                augment(command, $takes)
            }

            fn augment_args_for_update(command: Command) -> Command {
                augment(command, $takes)
            }
        }
    };
}

flags_from_table!(ServeFlags, is_flag_of_serve);
flags_from_table!(StoreFlags, is_flag_of_store);
