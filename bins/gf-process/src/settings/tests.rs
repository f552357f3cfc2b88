use std::fs;
use std::path::Path;
use std::time::Duration;

use super::*;

/// Cargo sets this variable for tests: a value from the environment that no test has to set.
const FROM_ENVIRONMENT: &str = env!("CARGO_PKG_NAME");

#[derive(Debug, Parser)]
#[command(name = "gf-test")]
struct Args {
    #[arg(long, env = "GF_TEST_LISTEN", default_value = "default")]
    listen: String,
    #[arg(long, env = "CARGO_PKG_NAME")]
    broker: String,
    #[arg(long, env = "GF_TEST_STORE")]
    store: String,
    #[arg(long, env = "GF_TEST_NUM_WORKERS", value_parser = clap::value_parser!(u16).range(1..))]
    num_workers: Option<u16>,
    #[arg(
        long,
        env = "GF_TEST_QUEUES",
        value_delimiter = ',',
        default_value = "default"
    )]
    queues: Vec<String>,
    #[arg(long, env = "GF_TEST_GRACE", value_parser = crate::duration, default_value = "25s")]
    grace: Duration,
    #[arg(long, env = "GF_TEST_MIGRATE")]
    migrate: bool,
    #[arg(long, env = "GF_TEST_LOG_FORMAT", value_enum, default_value_t)]
    log_format: crate::logging::Format,
    #[arg(long)]
    wait: bool,
}

#[derive(Debug, Parser)]
#[command(name = "gf-test")]
struct WithSubcommands {
    #[command(subcommand)]
    command: Sub,
}

#[derive(Debug, clap::Subcommand)]
enum Sub {
    Dev {
        #[arg(long, env = "GF_TEST_STORE")]
        store: String,
    },
}

fn run<A: Parser>(toml: &str, args: &[&str]) -> Result<A, Error> {
    let dir = std::env::temp_dir().join(format!(
        "gf-process-settings-{}-{:?}",
        std::process::id(),
        std::thread::current().id()
    ));
    fs::create_dir_all(&dir).unwrap();
    let path = dir.join("settings.toml");
    fs::write(&path, toml).unwrap();
    let args = ["gf-test"].iter().chain(args).map(OsString::from);
    let result = read(args, Some(path.into_os_string()));
    fs::remove_dir_all(&dir).unwrap();
    result
}

fn line(toml: &str) -> String {
    match run::<Args>(toml, &["--store", "s"]) {
        Err(Error::File(line)) => {
            assert!(!line.contains('\n'), "{line}");
            line.rsplit_once("settings.toml: ").unwrap().1.to_owned()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn flags_beat_variables_beat_the_file_beats_defaults() {
    let args: Args = run(
        "listen = 'file'\nbroker = 'file'\nstore = 'file'",
        &["--listen", "flag"],
    )
    .unwrap();
    assert_eq!(args.listen, "flag");
    assert_eq!(args.broker, FROM_ENVIRONMENT);
    assert_eq!(args.store, "file");
    assert_eq!(args.num_workers, None);
    assert_eq!(args.queues, ["default"]);
    assert!(!args.migrate && !args.wait);
}

#[test]
fn values_of_all_kinds_are_read() {
    let toml = "store = 's'\nnum-workers = 3\nqueues = ['a', 'b']\ngrace = '1m'\nmigrate = true\nlog-format = 'json'";
    let args: Args = run(toml, &[]).unwrap();
    assert_eq!(args.num_workers, Some(3));
    assert_eq!(args.queues, ["a", "b"]);
    assert_eq!(args.grace, Duration::from_secs(60));
    assert!(args.migrate);
    assert_eq!(args.log_format, crate::logging::Format::Json);

    let args: Args = run(
        "store = 's'\nqueues = 'a,b'\nmigrate = false",
        &["--queues", "c"],
    )
    .unwrap();
    assert_eq!(args.queues, ["c"]);
    assert!(!args.migrate);
    let args: Args = run("store = 's'\nqueues = 'a,b'", &[]).unwrap();
    assert_eq!(args.queues, ["a", "b"]);
}

#[test]
fn mistakes_in_the_file_are_one_line() {
    assert!(line("lisen = 'x'").starts_with("`lisen`: unknown key"));
    assert!(line("wait = true").starts_with("`wait`: unknown key"));
    assert!(
        line("store = 's'\nlisten = \n").starts_with("line 2: "),
        "{}",
        line("store = 's'\nlisten = \n")
    );
    assert!(line("num-workers = 0").starts_with("`num-workers`: 0 is not in 1.."));
    assert!(line("grace = 5").contains("5s for seconds"));
    assert_eq!(
        line("log-format = 'xml'"),
        "`log-format`: use one of text, json"
    );
    assert!(line("listen = ['a']").starts_with("`listen`: "));
    assert!(line("[listen]\na = 1").starts_with("`listen`: "));
}

#[test]
fn a_key_of_another_program_is_passed_over() {
    run::<Args>("store = 's'\nrecord = 'full'", &[]).unwrap();
}

#[test]
fn a_file_that_was_named_has_to_be_there() {
    let args = ["gf-test", "--config", "/nonexistent/a.toml"].map(OsString::from);
    assert!(
        matches!(read::<Args>(args, None), Err(Error::File(line)) if line.contains("/nonexistent/a.toml"))
    );
    assert!(!Path::new(DEFAULT_FILE).exists());
    assert!(matches!(
        read::<Args>([OsString::from("gf-test")], None),
        Err(Error::Clap(_))
    ));
}

#[test]
fn subcommands_have_their_settings_too() {
    let args: WithSubcommands = run("store = 'file'", &["dev"]).unwrap();
    let Sub::Dev { store } = args.command;
    assert_eq!(store, "file");
}

#[test]
fn help_shows_no_values() {
    let Err(Error::Clap(help)) = run::<Args>("store = 'secret'", &["--help"]) else {
        panic!("no help")
    };
    let help = help.to_string();
    assert!(
        help.contains("--config <FILE>") && help.contains("[env: GF_TEST_STORE]"),
        "{help}"
    );
    assert!(
        !help.contains("secret") && !help.contains(&format!("={FROM_ENVIRONMENT}")),
        "{help}"
    );
}

#[test]
fn a_setting_missing_from_the_list_is_named() {
    #[derive(Debug, Parser)]
    struct New {
        #[arg(long, env = "GF_TEST_NOVELTY")]
        _novelty: bool,
    }
    assert_eq!(unlisted::<New>(), ["novelty"]);
    assert!(unlisted::<Args>().is_empty());
}
