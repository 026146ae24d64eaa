//! The built program, seen from outside: what it says, where, and how it ends.

use std::fs;
use std::io::Read;
use std::process::{Command, Output, Stdio};

fn laggard(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_laggard"));
    command.args(args).env_clear().stdin(Stdio::null());
    command
}

fn output(args: &[&str]) -> Output {
    laggard(args).output().expect("the program starts")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("text")
}

/// The program ends with `code`, says `expected` on stderr, and nothing on stdout.
fn check(args: &[&str], code: i32, expected: &str) {
    let output = output(args);
    assert_eq!(text(&output.stderr), expected, "{args:?}");
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(code), ""), "{args:?}");
}

#[test]
fn wrong_arguments_are_told_in_one_sentence_with_exit_code_64() {
    for (args, sentence) in [
        (&["explode"][..], "unrecognized subcommand 'explode'"),
        (&["run", "--confg", "a"], "unexpected argument '--confg' found"),
        (&["validate"], "the following required arguments were not provided: --config <FILE>"),
        (&["compare", "a"], "the following required arguments were not provided: <SLOW>"),
        (&["replay"], "the following required arguments were not provided: <FILE>..."),
        (
            &["compare", "a", "b", "--format", "pdf"],
            "invalid value 'pdf' for '--format <FORMAT>' [possible values: text, json, html]",
        ),
        (
            &["compare", "a", "b", "--trace-id", "1"],
            "invalid value '1' for '--trace-id <ID>': must be 32 hexadecimal digits that are not all zero",
        ),
        (
            &["compare", "a", "b", "--trace-id", "0123456789abcdef"],
            "invalid value '0123456789abcdef' for '--trace-id <ID>': must be a trace id of 32 hexadecimal digits; 16 are \
             the id of a span",
        ),
    ] {
        check(args, 64, &format!("laggard: {sentence}; see laggard --help\n"));
    }
}

#[test]
fn a_certificate_that_cannot_be_used_is_told_in_one_sentence_with_exit_code_64() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    fs::write(path("empty.pem"), "").expect("writes");
    for (yaml, sentence) in [
        (
            "receive: {tls: {cert_file: EMPTY, key_file: EMPTY}}\nexport: {endpoint: 'http://a:1'}",
            "receive.tls.cert_file: EMPTY: must hold PEM certificates",
        ),
        (
            "receive: {auth: {bearer_token_file: EMPTY}}\nexport: {endpoint: 'http://a:1'}",
            "receive.auth.bearer_token_file: EMPTY: must hold a token, one a line",
        ),
        (
            "receive: {max_request_size: 1MiB}\nexport: {endpoint: 'https://a:1', tls: {ca_file: EMPTY}}",
            "export.tls.ca_file: EMPTY: must hold PEM certificates",
        ),
    ] {
        let free_ports = "\ntelemetry: {admin: {endpoint: '127.0.0.1:0'}, log: {level: error}}";
        let yaml = yaml.replace(
            "receive: {",
            "receive: {grpc: {endpoint: '127.0.0.1:0'}, http: {endpoint: '127.0.0.1:0'}, ",
        );
        fs::write(path("laggard.yaml"), yaml.replace("EMPTY", &path("empty.pem")) + free_ports)
            .expect("writes");
        let sentence = sentence.replace("EMPTY", &path("empty.pem"));
        check(&["run", "--config", &path("laggard.yaml")], 64, &format!("laggard: {sentence}\n"));
    }
}

#[test]
fn without_a_command_the_help_is_shown_with_exit_code_64() {
    let output = output(&[]);
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(64), ""));
    assert!(text(&output.stderr).contains("validate"), "{}", text(&output.stderr));
}

#[test]
fn help_and_version_go_to_stdout() {
    let version = output(&["--version"]);
    assert_eq!(version.status.code(), Some(0));
    assert_eq!(text(&version.stdout), concat!("laggard ", env!("CARGO_PKG_VERSION"), "\n"));
    let help = output(&["--help"]);
    assert_eq!((help.status.code(), text(&help.stderr)), (Some(0), ""));
    for command in ["run", "compare", "replay", "demo", "validate", "health"] {
        assert!(text(&help.stdout).contains(&format!("  {command} ")), "{}", text(&help.stdout));
    }
}

#[test]
fn a_valid_configuration_whose_files_are_elsewhere_is_valid_and_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let (path, token) = (folder.path().join("config.yaml"), folder.path().join("token"));
    let yaml = format!(
        "export: {{endpoint: 'http://collector:4317'}}\nreceive: {{auth: {{bearer_token_file: '{}'}}}}",
        token.display()
    );
    fs::write(&path, yaml).expect("written");
    let validate = || output(&["validate", "--config", path.to_str().expect("text")]);
    let valid = format!("{} is valid\n", path.display());
    let absent = format!(
        "{valid}note: receive.auth.bearer_token_file: {} cannot be read here, and run does not start without it: No such \
         file or directory (os error 2)\n",
        token.display()
    );
    assert_eq!((validate().status.code(), text(&validate().stdout)), (Some(0), absent.as_str()));
    fs::write(&token, "secret").expect("written");
    assert_eq!(text(&validate().stdout), valid);
}

#[test]
fn an_absent_configuration_ends_run_and_validate_with_64() {
    for command in ["run", "validate"] {
        check(
            &[command, "--config", "/does/not/exist.yaml"],
            64,
            "/does/not/exist.yaml: cannot be read: No such file or directory (os error 2)\n",
        );
    }
    check(
        &["run"],
        64,
        "environment:1:1: export.endpoint: must say where traces go, or OTEL_EXPORTER_OTLP_ENDPOINT must, got nothing\n",
    );
}

#[test]
fn a_wrong_configuration_is_told_line_by_line_with_64() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("laggard.yaml");
    fs::write(&path, "sample: {healthy: 5}\nexport:\n  endpoit: http://a:1\n").expect("writes");
    let file = path.to_str().expect("text");
    for command in ["run", "validate"] {
        let output = output(&[command, "--config", file]);
        let lines: Vec<_> = text(&output.stderr)
            .lines()
            .map(|line| line.strip_prefix(file).expect("the file's name"))
            .collect();
        assert_eq!(
            lines,
            [
                ":1:19: sample.healthy: must be a share from 0% to 100%, got 5",
                ":3:3: export.endpoit: must be one of endpoint, protocol, headers, compression, timeout, tls, retry, \
                 queue, batch, got endpoit, did you mean `endpoint`?",
                ":3:3: export.endpoint: must say where traces go, or OTEL_EXPORTER_OTLP_ENDPOINT must, got nothing",
            ]
        );
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(64), ""));
    }
}

#[test]
fn a_right_configuration_is_confirmed_and_may_use_the_environment() {
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/config.example.yaml");
    let output = output(&["validate", "--config", example]);
    assert_eq!(text(&output.stderr), "");
    assert_eq!(
        (output.status.code(), text(&output.stdout)),
        (Some(0), format!("{example} is valid\n").as_str())
    );

    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("laggard.yaml");
    fs::write(&path, "export: {endpoint: 'http://${env:HOST}:4317'}").expect("writes");
    let validate = || laggard(&["validate", "--config", path.to_str().expect("text")]);
    assert_eq!(validate().output().expect("starts").status.code(), Some(64));
    assert_eq!(validate().env("HOST", "collector").output().expect("starts").status.code(), Some(0));
}

#[test]
fn the_schema_is_json_and_needs_no_configuration() {
    let output = output(&["validate", "--schema"]);
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""));
    let schema: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(schema["properties"]["sample"]["additionalProperties"], false);
}

#[test]
fn health_of_what_is_no_host_and_port_is_a_bad_argument() {
    for wrong in [
        "nonsense",
        "http://127.0.0.1:13134",
        "127.0.0.1",
        ":13134",
        "::1:13134",
        "a:0",
        "a:99999",
        "a:1/ready",
    ] {
        let output = output(&["health", "--endpoint", wrong]);
        let said = text(&output.stderr);
        assert!(said.contains("must be a host and a port, such as 127.0.0.1:13134"), "{said}");
        assert_eq!((output.status.code(), said.lines().count()), (Some(64), 1), "{wrong}");
    }
}

#[test]
fn health_asks_the_admin_port_of_the_configuration() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("laggard.yaml");
    let port = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = port.local_addr().expect("it is bound").port();
    let yaml =
        format!("export: {{endpoint: 'http://a:1'}}\ntelemetry: {{admin: {{endpoint: '0.0.0.0:{port}'}}}}\n");
    fs::write(&path, yaml).expect("writes");
    let output = output(&["health", "--config", path.to_str().expect("text")]);
    let said = text(&output.stderr);
    assert!(said.starts_with(&format!("laggard: 127.0.0.1:{port} does not answer: ")), "{said}");
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(1), ""));
}

#[test]
fn a_reader_that_leaves_is_no_failure() {
    let mut child =
        laggard(&["--help"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
    drop(child.stdout.take());
    let mut said = String::new();
    child.stderr.take().expect("piped").read_to_string(&mut said).expect("text");
    assert_eq!((child.wait().expect("ends").code(), said.as_str()), (Some(0), ""));
}
