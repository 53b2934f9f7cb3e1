"""Chat templates: a conversation as the text that its model was trained on.

A template is a program that comes with the model. What it renders is fed only if everything that was said
is in it; a template that wants each text as a list of parts is given one.
"""

from __future__ import annotations

from analysis.errors import TextError, first_line
from analysis.opening.models import LoadedModel
from analysis.running.conversations import Conversation, Turn, make_messages
from analysis.running.reasoning import CLOSE

MEND = (
    "correct chat_template in its tokenizer_config.json or chat_template.jinja, remove it, or feed the "
    "prompt without it (--raw)"
)

TELLING = 24
"""Characters from which a text in what a template renders is no coincidence."""
MORE = "and more of it"


def has_template(loaded: LoadedModel) -> bool:
    """Whether the model's tokenizer has a chat template."""
    return bool(loaded.tokenizer.chat_template)


def render_conversation(loaded: LoadedModel, conversation: Conversation) -> str:
    """The text of a conversation up to where the answer begins, its answer prefix left out.

    Raises TextError as `render_turns`.
    """
    return render_turns(loaded, conversation.spoken)


def render_turns(loaded: LoadedModel, spoken: tuple[Turn, ...]) -> str:
    """The text of everything said, (role, text) in order, up to where the answer begins.

    Raises TextError for a template that fails, renders nothing, or leaves out what was said.
    """
    _check_names(loaded)
    reasons = []
    for as_parts in (False, True):
        text, reason = _try_rendering(loaded, spoken, as_parts)
        if not reason:
            return _drop_closing_end(loaded, spoken, text, as_parts)
        reasons.append(reason)
    raise TextError(_explain(loaded, spoken, reasons[0]))


def _check_names(loaded: LoadedModel) -> None:
    named = loaded.tokenizer.chat_template
    if isinstance(named, dict) and "default" not in named:
        raise TextError(
            f"{loaded.ref.name} has several chat templates ({', '.join(sorted(named))}) and none is named "
            f"default; name one of them default, or feed the prompt without a template (--raw)"
        )


def _try_rendering(loaded: LoadedModel, spoken: tuple[Turn, ...], as_parts: bool) -> tuple[str, str]:
    """(text, ""), or ("", why the template cannot be used)."""
    try:
        text = _render(loaded, spoken, as_parts)
    except Exception as error:  # a template is a program; it fails in its own ways
        return "", f"cannot take this prompt ({first_line(error)})"
    if not text.strip():
        return "", "renders nothing"
    if as_parts and _shows_parts(text):
        return "", "writes the list of parts itself"
    for number, (role, _) in enumerate(spoken):
        if _is_left_out(loaded, spoken, number, text, as_parts):
            what = "system prompt" if role == "system" else f"earlier turn of the {role}"
            return "", f"leaves out the {'prompt' if number == len(spoken) - 1 else what}"
    return text, ""


def _render(loaded: LoadedModel, spoken: tuple[Turn, ...], as_parts: bool) -> str:
    messages = make_messages(spoken, as_parts=as_parts)
    return str(loaded.tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False))


def _is_left_out(
    loaded: LoadedModel, spoken: tuple[Turn, ...], number: int, text: str, as_parts: bool
) -> bool:
    """Whether the rendered text is without what was said `number`-th; reasoning of earlier turns may be.

    A short text may stand in the template's own words, and a template may write a text otherwise than it was
    typed (quoted, trimmed); there more text must change what is rendered.
    """
    role, said = spoken[number]
    wanted = _squeeze(said.rpartition(CLOSE)[2] if role == "assistant" else said)
    if not wanted or (len(wanted) >= TELLING and wanted in _squeeze(text)):
        return False
    other = (*spoken[:number], (role, f"{said} {MORE}"), *spoken[number + 1 :])
    try:
        return _render(loaded, other, as_parts) == text
    except Exception:  # it looks at what is said, so it does not leave it out
        return False


def _shows_parts(text: str) -> bool:
    """Whether a template that knows no parts has written their list, as Python or as JSON."""
    return "'type': 'text'" in text or '"type": "text"' in text


def _squeeze(text: str) -> str:
    """Without white space, which templates may trim."""
    return "".join(text.split())


def _explain(loaded: LoadedModel, spoken: tuple[Turn, ...], reason: str) -> str:
    if spoken[0][0] == "system" and any(
        not _try_rendering(loaded, spoken[1:], as_parts)[1] for as_parts in (False, True)
    ):
        return (
            f"the chat template of {loaded.ref.name} knows no system role: it {reason}; write the system "
            "prompt at the beginning of the prompt instead"
        )
    return f"the chat template of {loaded.ref.name} {reason}; {MEND}"


def _drop_closing_end(loaded: LoadedModel, spoken: tuple[Turn, ...], text: str, as_parts: bool) -> str:
    """The text without the end token that a template writes behind a whole conversation, as in training.

    One that stands behind the last turn also where the conversation goes on belongs to the turn, and stays.
    """
    names = loaded.tokenizer.convert_ids_to_tokens(sorted(loaded.ends_of_text))
    end = next((name for name in names if name and text.endswith(name)), None)
    if end is None:
        return text
    longer = (*spoken, ("assistant", "a"), spoken[-1])
    again = _try_rendering(loaded, longer, as_parts)[0]
    of_the_turn = not again or again.startswith(text)  # it stays where the conversation goes on
    return text if of_the_turn else text.removesuffix(end)
