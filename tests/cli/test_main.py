import errno
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from llmctl.cli.main import main
from llmctl.config import Derived, force_knob, knob, parse_count
from llmctl.console import console
from llmctl.errors import (
    ConfigError,
    DataError,
    DependencyError,
    Interruption,
    LlmctlError,
    RemoteError,
    TrainingError,
    WorkspaceError,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    rate: float = knob(3e-4, help="Step size")


@dataclass(frozen=True, slots=True, kw_only=True)
class Train:
    """Train a model."""

    steps: int = knob(10, help="Steps", parse=parse_count)
    size: str = knob("nano", help="Size")
    from_: tuple[str, ...] = knob((), help="Tokens")
    rule: Rule = knob(factory=Rule, help="Optimizer")


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """Do as one of the deeds below."""

    deed: str = knob(help="Which", positional=True)
    force: bool = force_knob()


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """Read files."""

    paths: tuple[Path, ...] = knob(positional=True, help="Files")


@dataclass(frozen=True, slots=True, kw_only=True)
class Demo:
    """Read what is there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Collect:
    """Collect text."""

    source: Any = knob(choices_from=f"{__name__}:SOURCES", help="Where from")


SOURCES = {"demo": f"{__name__}:Demo", "files": f"{__name__}:Files"}

TABLE = {
    "Build": {
        "collect": (f"{__name__}:Collect", "Collect text"),
        "train": (f"{__name__}:Train", "Train a model"),
    },
    "Use": {
        "act": (f"{__name__}:Act", "Do something"),
        "tune well": (f"{__name__}:Train", "Tune a model"),
    },
}


class Made(NamedTuple):
    kind: str = "model"
    name: str = "base"
    path: Path = Path("workspace/models/base")
    digest: str = "abc"
    facts: dict[str, Any] = {"loss": 1.5}  # noqa: RUF012


def refuse(error: BaseException) -> Callable[[Any], Any]:
    def deed(_: Any) -> Any:
        raise error

    return deed


def talk(_: Any) -> dict[str, Any]:
    sys.stdout.write("a library prints\n")
    console.say("talk")
    console.warn("careful")
    console.data("data")
    return {"done": True}


def log(_: Any) -> dict[str, Any]:
    logging.getLogger("llmctl.deep.down").info("a detail")
    logging.getLogger("llmctl.deep.down").warning("a doubt")
    return {}


DEEDS: dict[str, Callable[[Any], Any]] = {
    "make": lambda _: Made(),
    "measure": lambda _: {"loss": float("nan"), "rates": (float("inf"), 1), "path": Path("a")},
    "look": lambda workspace: {"root": str(workspace.root)},
    "talk": talk,
    "log": log,
    "refuse": refuse(DataError("no text in [red]a[/red]", hint="look at `a`")),
    "fail": refuse(KeyError("oh")),
    "interrupt": refuse(KeyboardInterrupt()),
}


def run(config: Any, workspace: Any) -> Any:
    return DEEDS[config.deed](workspace) if isinstance(config, Act) else {"config": config}


def explain(config: Any, _: Any) -> dict[str, Any]:
    is_large = getattr(config, "size", "") == "xl"
    return {"depth": Derived(12, "follows the size"), "width": 768} if is_large else {}


class Ended(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def llmctl(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Ended]:
    """Run a command line in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("LLMCTL_WORKSPACE", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def call(*words: str) -> Ended:
        code = main(list(words), TABLE)
        out, err = capsys.readouterr()
        return Ended(code, out, err)

    return call


def shown(llmctl: Callable[..., Ended], *words: str) -> Any:
    """The config of a command line as `--show-config` prints it."""
    ended = llmctl(*words, "--show-config")
    assert ended.code == 0, ended.err
    return tomllib.loads(ended.out)


# --- which config ---


def test_flags_win_over_toml_and_toml_over_defaults(llmctl: Callable[..., Ended]):
    Path("my.toml").write_text('steps = 20\nsize = "tiny"\n', encoding="utf-8")

    config = shown(llmctl, "train", "--config", "my.toml", "--steps", "30")

    assert (config["steps"], config["size"], config["rule"]["rate"]) == (30, "tiny", 3e-4)


def test_a_flag_wins_within_a_table(llmctl: Callable[..., Ended]):
    Path("my.toml").write_text("[rule]\nrate = 0.5\n", encoding="utf-8")

    assert shown(llmctl, "train", "--config", "my.toml")["rule"] == {"rate": 0.5}
    assert shown(llmctl, "train", "--config", "my.toml", "--rate", "2")["rule"] == {"rate": 2}


def test_one_file_holds_the_whole_chain(llmctl: Callable[..., Ended]):
    Path("chain.toml").write_text(
        '[collect.source]\ntype = "files"\npaths = ["a"]\n[train]\nsteps = 7\n'
        "[tune.well]\nsteps = 8\n",
        encoding="utf-8",
    )

    assert shown(llmctl, "train", "--config", "chain.toml")["steps"] == 7
    assert shown(llmctl, "tune", "well", "--config", "chain.toml")["steps"] == 8
    collected = shown(llmctl, "collect", "files", "--config", "chain.toml")
    assert collected == {"source": {"type": "files", "paths": ["a"]}}


def test_a_chain_that_does_not_speak_of_a_command_leaves_its_defaults(
    llmctl: Callable[..., Ended],
):
    Path("chain.toml").write_text("[collect]\n", encoding="utf-8")

    assert shown(llmctl, "train", "--config", "chain.toml")["steps"] == 10


def test_what_show_config_prints_can_be_given_to_config(llmctl: Callable[..., Ended]):
    printed = llmctl("train", "--steps", "3k", "--from", "a", "--rate", "1", "--show-config").out
    Path("again.toml").write_text(printed, encoding="utf-8")

    assert llmctl("train", "--config", "again.toml", "--show-config").out == printed


def test_show_config_says_what_follows_and_why(llmctl: Callable[..., Ended]):
    assert "# depth = 12   follows the size\n# width = 768\n" in (
        llmctl("train", "--size", "xl", "--show-config").out
    )


def test_show_config_answers_in_json(llmctl: Callable[..., Ended]):
    answer = llmctl("train", "--show-config", "--json").json

    assert answer["config"]["rule"] == {"rate": 3e-4}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("stepz = 3", "unknown key `stepz` in my.toml"),
        ("steps = 'x'", "`steps` in my.toml: `x` is not a count"),
        ("size = 3", "`size` in my.toml takes text, not `3`"),
        ("rule = 3", "`rule` takes a table, not `3`"),
        ("[trian]\nsteps = 3\n[collect]", "unknown table `trian` in my.toml"),
        ("train = 3", "`train` in my.toml takes a table, not `3`"),
        ("steps = ", "my.toml cannot be read as TOML"),
    ],
)
def test_a_file_that_makes_no_sense_is_a_usage_error(
    content: str, message: str, llmctl: Callable[..., Ended]
):
    Path("my.toml").write_text(content, encoding="utf-8")

    ended = llmctl("train", "--config", "my.toml", "--rate", "1")

    assert (ended.code, ended.out) == (2, "")
    assert f"error: {message}" in ended.err


def test_a_file_about_another_source_is_refused(llmctl: Callable[..., Ended]):
    Path("my.toml").write_text('source = "demo"', encoding="utf-8")

    ended = llmctl("collect", "files", "a", "--config", "my.toml")

    assert ended.code == 2
    assert "error: my.toml is about the source `demo`, not `files`" in ended.err


# --- where ---


def test_the_workspace_is_the_flag_then_the_environment_then_here(
    llmctl: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch
):
    assert llmctl("act", "look", "--json").json == {"root": "workspace"}
    monkeypatch.setenv("LLMCTL_WORKSPACE", "elsewhere")
    assert llmctl("act", "look", "--json").json == {"root": "elsewhere"}
    assert llmctl("act", "look", "--json", "-w", "mine").json == {"root": "mine"}


# --- answers ---


def test_an_artifact_is_one_json_object(llmctl: Callable[..., Ended]):
    ended = llmctl("act", "make", "--json")

    assert ended.code == 0
    assert ended.json == {
        "artifact": {
            "kind": "model",
            "name": "base",
            "path": "workspace/models/base",
            "digest": "abc",
        },
        "facts": {"loss": 1.5},
    }


def test_a_number_that_json_does_not_know_is_null(llmctl: Callable[..., Ended]):
    assert llmctl("act", "measure", "--json").json == {
        "loss": None,
        "rates": [None, 1],
        "path": "a",
    }


def test_with_json_nothing_else_stands_on_stdout(llmctl: Callable[..., Ended]):
    ended = llmctl("act", "talk", "--json")

    assert ended.json == {"done": True}
    assert "talk" in ended.err


def test_without_json_data_goes_to_stdout_and_talk_to_stderr(llmctl: Callable[..., Ended]):
    ended = llmctl("act", "talk")

    assert ended.out == "a library prints\ndata\n"
    assert ended.err == "talk\nwarning: careful\n"


def test_quiet_leaves_data_and_warnings(llmctl: Callable[..., Ended]):
    ended = llmctl("act", "talk", "--quiet")

    assert ended.out == "a library prints\ndata\n"
    assert ended.err == "warning: careful\n"


def test_the_log_is_heard_as_loud_as_asked_for(llmctl: Callable[..., Ended]):
    assert llmctl("act", "log").err == "warning: a doubt\n"
    assert llmctl("act", "log", "-v").err == "a detail\nwarning: a doubt\n"


# --- failures ---


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (ConfigError("no"), 2, "no"),
        (WorkspaceError("no"), 3, "no"),
        (DataError("no"), 4, "no"),
        (DependencyError("no"), 5, "no"),
        (TrainingError("no"), 6, "no"),
        (RemoteError("no"), 7, "no"),
        (Interruption("no"), 130, "no"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (MemoryError(), 6, "out of memory"),
        (OSError(errno.ENOSPC, "full", "a/b"), 6, "the disk is full: a/b"),
        (PermissionError(errno.EACCES, "no", "a/b"), 3, "permission denied: a/b"),
        (ModuleNotFoundError("no", name="fast.web"), 5, "fast is not installed"),
        (ModuleNotFoundError("no", name="llmctl.x"), 1, "this is a bug in llmctl: "),
        (FileNotFoundError(errno.ENOENT, "gone", "a/b"), 4, "cannot read a/b: gone"),
        (BrokenPipeError(errno.EPIPE, "a worker died"), 1, "this is a bug in llmctl: "),
        (LlmctlError("no"), 1, "no"),
        (ZeroDivisionError("by 0"), 1, "this is a bug in llmctl: ZeroDivisionError: by 0"),
    ],
)
def test_an_error_has_its_exit_code_and_message(
    error: BaseException,
    code: int,
    message: str,
    llmctl: Callable[..., Ended],
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setitem(DEEDS, "fail", refuse(error))

    said, answered = llmctl("act", "fail"), llmctl("act", "fail", "--json")

    assert (said.code, said.out) == (code, "")
    assert said.err.startswith(f"error: {message}")
    assert (answered.code, answered.err) == (code, "")
    assert answered.json["error"]["code"] == code
    assert answered.json["error"]["message"].startswith(message)


def test_who_is_told_to_go_on_is_told_that_force_begins_anew(llmctl: Callable[..., Ended]):
    assert llmctl("act", "interrupt", "--force").err.endswith("kept, without `--force`\n")
    assert llmctl("act", "interrupt").err.endswith("kept\n")


def test_a_refusal_says_what_to_do_and_reads_no_markup(llmctl: Callable[..., Ended]):
    assert llmctl("act", "refuse").err == "error: no text in [red]a[/red]\n\nhint: look at `a`\n"


def test_a_bug_leaves_its_traceback_in_a_file(llmctl: Callable[..., Ended]):
    hint = llmctl("act", "fail", "--json").json["error"]["hint"]

    path = Path(hint.removeprefix("the traceback is in ").partition(";")[0])
    assert "KeyError: 'oh'" in path.read_text(encoding="utf-8")


def test_a_traceback_is_shown_only_with_debug(llmctl: Callable[..., Ended]):
    assert "Traceback" not in llmctl("act", "fail").err
    assert "Traceback" not in llmctl("act", "refuse").err
    assert "Traceback" in llmctl("act", "fail", "--debug").err
    assert "Traceback" in llmctl("act", "refuse", "--debug").err


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        ("trian", "unknown command `trian`", "did you mean `train`?"),
        ("collect flies", "unknown source `flies`", "did you mean `files`?"),
        ("tune wel", "unknown `tune` command `wel`", "did you mean `well`?"),
        ("collect", "`llmctl collect` needs one more word", "one of demo, files; see"),
        ("train --stesp 3", "no such option: --stesp", "did you mean `--steps`?"),
        ("train --steps", "option `--steps` requires an argument", "`--help`"),
        ("train --json=3", "option `--json` does not take a value", "`--help`"),
        ("train --steps x", "`--steps`: `x` is not a count", "write a whole number"),
        ("train a b", "too many arguments: a b", "see `llmctl train --help`"),
        ("collect files", "`PATH...` is missing", "usage: llmctl collect files PATH..."),
        ("--workspace w train", "no such option: --workspace", "options come after the command"),
        ("train --config absent.toml", "there is no file absent.toml", "`--config` takes"),
    ],
)
def test_a_command_line_that_makes_no_sense_is_told_what_does(
    words: str, message: str, hint: str, llmctl: Callable[..., Ended]
):
    said, answered = llmctl(*words.split()), llmctl(*words.split(), "--json")

    assert (said.code, said.out) == (2, "")
    assert said.err.startswith(f"error: {message}\n\nhint: {hint}")
    assert answered.code == 2
    assert set(answered.json["error"]) == {"code", "message", "hint"}


def test_a_word_that_looks_like_json_after_two_dashes_is_a_word(llmctl: Callable[..., Ended]):
    ended = llmctl("act", "refuse", "--", "--json")

    assert ended.code == 2
    assert ended.err.startswith("error: too many arguments: --json")


# --- help and the shell ---


def test_llmctl_alone_prints_its_help(llmctl: Callable[..., Ended]):
    ended = llmctl()

    assert ended == llmctl("--help") == llmctl("-h")
    assert ended.code == 0
    assert "\nBuild\n  collect " in ended.out
    assert "\nUse\n  act " in ended.out


def test_the_help_of_a_group_lists_what_is_in_it(llmctl: Callable[..., Ended]):
    assert "\nSources\n  demo        Read what is there\n" in llmctl("collect", "--help").out
    assert "\nCommands\n  well        Tune a model\n" in llmctl("tune", "--help").out


def test_the_version_is_printed(llmctl: Callable[..., Ended]):
    assert llmctl("--version").out.startswith("llmctl ")


@pytest.mark.parametrize(
    ("line", "completions"),
    [
        ("llmctl co", ["collect"]),
        ("llmctl collect ", ["demo", "files"]),
        ("llmctl tune w", ["well"]),
        ("llmctl train --ste", ["--steps"]),
        ("llmctl train --deb", []),
        ("llmctl nothing --ste", []),
    ],
)
def test_the_shell_completes_commands_and_flags_that_are_not_rare(
    line: str,
    completions: list[str],
    llmctl: Callable[..., Ended],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("_LLMCTL_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(len(line.split(" ")) - 1))

    with pytest.raises(SystemExit) as end:
        llmctl()

    assert end.value.code == 0
    assert capsys.readouterr().out.split() == completions


# --- as a process ---

STAGE = """
    import time
    from dataclasses import dataclass
    from llmctl.cli.main import main
    from llmctl.console import console

    @dataclass(frozen=True, kw_only=True)
    class Count:
        pass

    def run(config, workspace):
        for number in range(100_000):
            console.data(str(number))
            time.sleep(0.001)

    if __name__ == "__main__":
        raise SystemExit(main(["count"], {"Use": {"count": ("__main__:Count", "Count")}}))
"""


def test_garbage_is_collected_again_once_the_command_runs(tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "-c", "import gc; from llmctl.__main__ import command; command();"
         " print(gc.isenabled())", "--version"],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip

    assert done.stdout.splitlines()[-1] == "True"


@pytest.fixture
def counting(tmp_path: Path) -> "subprocess.Popen[str]":
    """A command that prints numbers for a long time."""
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(STAGE), encoding="utf-8")
    path = os.pathsep.join((str(Path(__file__).parents[2]), os.environ["PYTHONPATH"]))
    return subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": path},
        # A shell's background jobs, this suite among them, would hand down that it is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def test_a_reader_that_has_seen_enough_ends_the_command_in_silence(
    counting: "subprocess.Popen[str]",
):
    assert counting.stdout is not None
    assert counting.stderr is not None
    with counting:
        counting.stdout.readline()
        counting.stdout.close()
        said = counting.stderr.read()

    assert (counting.returncode, said) == (141, "")


def test_ctrl_c_ends_the_command_with_a_line(counting: "subprocess.Popen[str]"):
    assert counting.stdout is not None
    counting.stdout.readline()
    counting.send_signal(signal.SIGINT)

    said = counting.communicate()[1]

    assert (counting.returncode, said.splitlines()[0]) == (130, "error: interrupted")
