r"""LaTeX: text by sections without holes, formulae kept, the rest counted, bombs bounded."""

from itertools import pairwise
from pathlib import Path

import pytest

from llmctl.data.document import Document, Rejected
from llmctl.data.formats.latex import passage_of
from llmctl.data.formats.latex_macros import write_out
from llmctl.data.formats.passage import Unreadable
from llmctl.data.sources.files import Files

PAPER = r"""\documentclass[11pt]{article}
\usepackage{graphicx} % not text
\newcommand{\mill}[1][water]{the #1~mill}
\newcommand{\R}{\mathbb{R}}
\title{On \emph{Mills}\thanks{Paid by nobody}}
\author{Ada Lovelace \and Émile B\'ezout}
\begin{document}
\maketitle
\begin{abstract}Mills turn--- as \citet{old} and others~\cite{old,older} say.\end{abstract}
\section{Methods}\label{sec:methods}
We watched \mill{} and \mill[wind], in $\R$, see Section~\ref{sec:methods}
(\cite{old}), turn at $v = 3$ and
\begin{equation}\label{eq:one} x \in \R^2 \end{equation}
per cent: 50\%.% of what?

\textbf{Bold} words\footnote{A small note.}, ``quoted'' na\"ive \o{} and \href{http://a.b}{a link}.
\begin{itemize}\item One \item[Two] more\end{itemize}
\begin{figure}\includegraphics{mill.png}\caption{A mill.}\end{figure}
\begin{table}\begin{tabular}{ll} 1 & 2 \end{tabular}\end{table}
\unknown{Kept} all the same \vspace*{2mm} here.
\begin{thebibliography}{9}\bibitem{old} Old. \bibitem{older} Older.\end{thebibliography}
\end{document} afterwards"""

TEXT = """On Mills

Mills turn— as and others say.

Methods

We watched the water mill and the wind mill, in $\\mathbb{R}$, see Section, turn at $v = 3$ and

$$x \\in \\mathbb{R}^2$$

per cent: 50%.

Bold words, “quoted” naïve ø and a link.

- One

- Two more

Kept all the same here."""


def test_a_paper_is_read_by_its_sections_without_holes():
    paper, _ = passage_of(PAPER)

    assert paper.text == TEXT
    assert paper.facts == {
        "title": "On Mills", "authors": "Ada Lovelace; Émile Bézout", "formulae": "3"
    }  # fmt: skip


def test_what_is_left_out_is_counted():
    _, left_out = passage_of(PAPER)

    assert left_out == {
        "citations": 3, "figures": 1, "footnotes": 1, "references": 2, "tables": 1
    }  # fmt: skip


def test_a_file_of_latex_is_read_like_any_other(tmp_path: Path):
    (tmp_path / "mills.tex").write_bytes(PAPER.encode())
    source = Files(paths=(str(tmp_path / "mills.tex"),))

    found = [one for part in source.parts() for one in source.read(part)]

    (document,) = (one for one in found if isinstance(one, Document))
    assert document.text == TEXT
    assert document.meta["title"] == "On Mills"
    told = {one.reason for one in found if isinstance(one, Rejected)}
    assert {"left out figures", "left out references"} <= told


@pytest.mark.parametrize(
    ("source", "written"),
    [
        (r"\def\a#1#2{#2 #1}\a{b}{c}", "c b"),
        (r"\newcommand\us{We}\us{} and \us\ go, \us.", r"We and We\ go, We."),
        (r"\newcommand{\a}{\b}\newcommand{\b}{c}\a", "c"),
        (r"\renewcommand{\a}[2][x]{#1#2}\a{1}\a[y]{2}", "x1y2"),
        (r"\newcommand{\a}{\a}\a", r"\a"),
        (r"\newcommand{\a", r"\newcommand{\a"),
        (r"\DeclareMathOperator{\Hom}{Hom}$\Hom$", r"$\operatorname{Hom}$"),
    ],
)
def test_an_authors_own_macros_are_written_out(source: str, written: str):
    assert write_out(source) == written


def test_macros_that_multiply_without_end_are_stopped():
    names = "abcdefghijklmnop"
    definitions = [
        r"\newcommand{\x" + one + "}{" + rf"\x{two}" * 10 + "}" for one, two in pairwise(names)
    ]

    assert len(write_out("".join([*definitions, r"\xa"]))) < 2**21


@pytest.mark.parametrize(
    "source", ["{" * 5000, r"\begin{a}" * 2000, r"\frac{" * 3000, "$" * 4001, "\\", r"\end{x}}}]"]
)
def test_broken_latex_is_told_and_ends(source: str):
    try:
        reason = passage_of(f"{source} word")[0].text
    except Unreadable as error:
        reason = error.reason

    assert reason in ("damaged LaTeX", "no text") or "word" in reason
