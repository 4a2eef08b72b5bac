"""What a site file may say. Every field's description is what an error message and the docs show."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self, get_args
from urllib.parse import urljoin, urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationInfo,
    field_validator,
    model_validator,
)

from browser.site.expressions import jmespath_expression
from browser.site.selectors import css_selector, inner_selector, path_or_none, step_selector
from browser.site.values import (
    address_pattern,
    distinct,
    key_to_press,
    regular_expression,
    relative_url,
    traffic_pattern,
    web_url,
)
from contract.toml_document import NOT_BLANK, ONE_LINE
from contract.toml_lines import Path, key_lines, line_of


class Section(BaseModel):
    # No docstring: each section of a site file would show it as its own.
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


Text = Annotated[str, Field(min_length=1)]
Selector = Annotated[str, Field(min_length=1), AfterValidator(css_selector)]
StepSelector = Annotated[str, Field(min_length=1), AfterValidator(step_selector)]
Words = Annotated[str, Field(pattern=NOT_BLANK)]
Line = Annotated[str, Field(pattern=ONE_LINE)]
Expression = Annotated[str, Field(min_length=1), AfterValidator(jmespath_expression)]
RegularExpression = Annotated[str, Field(min_length=1), AfterValidator(regular_expression)]
AddressPattern = Annotated[str, Field(min_length=1), AfterValidator(address_pattern)]
RelativeUrl = Annotated[str, Field(min_length=1), AfterValidator(relative_url)]
Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"]
# A day at most: what is longer is a mistake in the unit.
Seconds = Annotated[float, Field(gt=0, le=86_400)]

Once = AfterValidator(distinct("status"))
Statuses = Annotated[tuple[Annotated[int, Field(ge=200, le=599)], ...], Once]
ErrorStatuses = Annotated[tuple[Annotated[int, Field(ge=400, le=599)], ...], Once]


class Marker(Section):
    """What tells the state of the page; where both keys are given, both must hold."""

    selector: Selector | None = Field(
        default=None, description="a CSS selector of an element that is there and visible"
    )
    url: AddressPattern | None = Field(
        default=None, description="a pattern of the page's full address, * for any characters"
    )

    @model_validator(mode="after")
    def _not_empty(self) -> Self:
        if self.selector is None and self.url is None:
            raise ValueError("needs a selector or a url")
        return self


class LoginCheck(Section):
    """A request that is made in the page now and then, to learn whether the session is still valid."""

    url: RelativeUrl = Field(description="an address, relative to the site's url")
    expired_status: ErrorStatuses = Field(
        default=(401, 403),
        min_length=1,
        description="the statuses, 400 to 599, that mean: logged out; a redirect counts as 401",
    )


class LostLogin(Section):
    """A request of the page's own whose response tells that the session is over."""

    url: AddressPattern = Field(
        description="a pattern of the full address, of the request or where it led, * for any characters"
    )
    status: Statuses = Field(
        default=(401,), min_length=1, description="the statuses, 200 to 599, that mean: logged out"
    )


Verb = Literal["goto", "click", "dismiss", "press", "fill", "select", "wait_for", "wait_gone"]
VERBS: tuple[Verb, ...] = get_args(Verb)

SECRET = re.compile(r"\{secret:([a-z][a-z0-9_]{0,39})\}")
"""A place in the value of a login step, which is filled with this one of the profile's secrets."""


class Action(Section):
    """One step on the page: exactly one of the verbs. Selectors are Playwright's, so text=... works too."""

    goto: RelativeUrl | None = Field(default=None, description="an address to open, relative to the site's url")
    click: StepSelector | None = Field(default=None, description="a selector of an element to click")
    dismiss: StepSelector | None = Field(
        default=None, description="a selector of an element to click if it is there now"
    )
    press: Annotated[Text, AfterValidator(key_to_press)] | None = Field(
        default=None, description="a key such as Enter or Control+k, pressed in the element `on`"
    )
    fill: StepSelector | None = Field(default=None, description="a selector of a field to put `value` in")
    select: StepSelector | None = Field(default=None, description="a selector of a <select> to set to `value`")
    wait_for: StepSelector | None = Field(default=None, description="a selector of an element to wait for")
    wait_gone: StepSelector | None = Field(default=None, description="a selector of an element that must be gone")
    on: StepSelector | None = Field(default=None, description="with press: a selector; the input when not given")
    value: str | None = Field(
        default=None,
        description="with fill and select: the value; {model} is the model's name, and with fill in login.steps "
        "{secret:NAME} is NAME of the profile's secrets",
    )
    dialog: Literal["accept", "dismiss"] | None = Field(
        default=None, description="with click, press and select: the answer to a dialog of the browser's own"
    )
    timeout_s: Seconds = Field(default=10.0, description="how long the step may take, in seconds")

    @model_validator(mode="after")
    def _one_verb(self) -> Self:
        verbs = self._verbs()
        if len(verbs) != 1:
            raise ValueError(f"needs exactly one of {', '.join(VERBS)}")
        if (self.value is not None) != (verbs[0] in {"fill", "select"}):
            raise ValueError("value goes with fill and select, and only with them")
        if self.on is not None and verbs[0] != "press":
            raise ValueError("on goes with press only")
        if self.dialog is not None and verbs[0] not in {"click", "press", "select"}:
            raise ValueError("dialog goes with click, press and select only")
        return self

    def _verbs(self) -> list[Verb]:
        return [verb for verb in VERBS if getattr(self, verb) is not None]

    @property
    def verb(self) -> Verb:
        """The one verb that the step names."""
        return self._verbs()[0]

    @property
    def secrets(self) -> tuple[str, ...]:
        """The names of the secrets that its value is filled with."""
        return tuple(SECRET.findall(self.value or ""))

    def fills_in(self, name: str) -> bool:
        """Whether something in the step looks like a placeholder of this name, such as {model}."""
        given = [text for text in self.model_dump().values() if isinstance(text, str)]
        return any(re.search(rf"\{{{name}\b", text) for text in given)


def _holds_no_secret(step: Action) -> Action:
    if step.fills_in("secret"):
        raise ValueError("{secret:...} goes into login.steps only: nowhere else is it kept from screenshots")
    return step


def _is_login_step(step: Action) -> Action:
    """Return a step that can be done on a login page, and shows no secret. Raises ValueError."""
    if step.verb == "press" and step.on is None:
        raise ValueError("press needs `on` here: the prompt's input is not there before the login")
    if step.fills_in("model"):
        raise ValueError("there is no {model} here: the login is the same for all models")
    hidden = SECRET.sub("", step.value or "") if step.verb == "fill" else step.value
    if step.model_copy(update={"value": hidden}).fills_in("secret"):
        raise ValueError(
            "{secret:NAME} goes into the value of fill only, NAME being of lower-case letters, digits and _"
        )
    return step


Actions = tuple[Annotated[Action, AfterValidator(_holds_no_secret)], ...]
LoginSteps = tuple[Annotated[Action, AfterValidator(_is_login_step)], ...]

# A month at most: no login that is to be kept is left alone for longer.
LongSeconds = Annotated[float, Field(ge=1, le=31 * 86_400)]


class Refresh(Section):
    """How an idle login is kept from expiring: by exactly one of visit, fetch and steps.

    It is done between prompts, never during an answer, and the session is saved afterwards.
    """

    visit: RelativeUrl | None = Field(
        default=None, description="an address, relative to the site's url, that is loaded in a tab of its own"
    )
    fetch: RelativeUrl | None = Field(
        default=None, description="an address, relative to the site's url, that the page requests as its scripts would"
    )
    method: Method = Field(default="GET", description="with fetch: the HTTP method of the request")
    steps: Actions = Field(default=(), description="the steps that refresh the login, done on the chat page")
    own_tab: bool = Field(
        default=False, description="with steps: true: they are done in a tab of their own, which loads the site's url"
    )
    every_s: LongSeconds | None = Field(
        default=None, description="how often, in seconds; up to a tenth sooner, so that not all logins come at once"
    )
    before_expiry_s: LongSeconds | None = Field(
        default=None,
        description="how long before the login's cookies expire, in seconds; up to a fifth sooner, but not before half "
        "of the time that the refresh before has gained",
    )
    done: tuple[Marker, ...] = Field(
        default=(),
        min_length=1,
        description="a list of markers; one of them holds once the login is refreshed; when not given, the page must "
        "not show that it is logged out",
    )
    done_status: Statuses = Field(
        default=(),
        min_length=1,
        description="with fetch: the statuses, 200 to 599, that mean: refreshed; 200 to 299 when not given; a redirect "
        "counts as 401",
    )
    timeout_s: Seconds = Field(default=30.0, description="how long it may take as a whole, in seconds")

    @model_validator(mode="after")
    def _one_way_and_a_time(self) -> Self:
        if [self.visit is not None, self.fetch is not None, bool(self.steps)].count(True) != 1:
            raise ValueError("needs exactly one of visit, fetch, steps")
        if self.every_s is None and self.before_expiry_s is None:
            raise ValueError("needs every_s or before_expiry_s, or both: when it is to be done")
        for key, ways in (("method", "fetch"), ("done_status", "fetch"), ("own_tab", "steps")):
            if key in self.model_fields_set and not getattr(self, ways):
                raise ValueError(f"{key} goes with {ways} only")
        if self.fetch is not None and self.done:
            raise ValueError("done goes with visit and steps; with fetch done_status tells")
        return self

    @property
    def has_own_tab(self) -> bool:
        """Whether the chat page is left alone."""
        return self.visit is not None or self.own_tab


class Login(Section):
    """How to tell whether the page is logged in, and how to log in without a person."""

    none: bool = Field(
        default=False, description="true: the site has no login; of the other keys check alone may stand beside it"
    )
    logged_in: tuple[Marker, ...] = Field(
        default=(), min_length=1, description="a list of markers; one of them holds when logged in"
    )
    logged_out: tuple[Marker, ...] = Field(
        default=(), description="a list of markers; one of them holds when logged out"
    )
    check: LoginCheck | None = Field(
        default=None,
        description="a table with url and expired_status: a request that tells whether the session is valid",
    )
    lost: tuple[LostLogin, ...] = Field(
        default=(), description="a list of tables: requests of the page whose response tells that the session is over"
    )
    steps: LoginSteps = Field(
        default=(),
        description="the steps that log in, done where the page shows that it is logged out; {secret:NAME} in a value "
        "is NAME of the profile's secrets",
    )
    max_per_hour: int = Field(
        default=10, ge=1, le=60, description="how often the steps may be done in an hour, so that no account is locked"
    )
    expires_by: Annotated[tuple[Line, ...], AfterValidator(distinct("name"))] = Field(
        default=(),
        min_length=1,
        description="the names of the cookies by whose end the login ends, for login_expires_at and before_expiry_s; "
        "when not given, all that scripts cannot read and the site gets, or all if there are none",
    )
    refresh: Refresh | None = Field(
        default=None, description="a table: how an idle login is kept from expiring, and when that is done"
    )

    @model_validator(mode="after")
    def _there_is_one_or_none(self) -> Self:
        if not self.none and not self.logged_in:
            raise ValueError("needs logged_in, a list of markers of which one holds when logged in, or none = true")
        if self.none and (beside := sorted(self.model_fields_set - {"none", "check"})):
            raise ValueError(f"{beside[0]} cannot stand beside none = true, by which there is no login")
        if self.none and self.check and "expired_status" in self.check.model_fields_set:
            raise ValueError(
                "check.expired_status cannot stand beside none = true: there is no login that could expire"
            )
        if self.steps and not self.logged_out:
            raise ValueError("steps needs logged_out, to know when they are to be done")
        return self


class FreshChat(Section):
    """How to open an empty conversation: each prompt gets one."""

    actions: Actions = Field(min_length=1, description="the steps that open an empty conversation")
    answers: int = Field(default=0, ge=0, description="how many answers (greetings) an empty conversation shows")


LINE_BREAK_KEY = r"^((Shift|Control|Alt|Meta|ControlOrMeta)\+)*(Enter|NumpadEnter|[A-Za-z])$"
"""What breaks a line: Enter or a letter, with modifiers, named as in Playwright."""


class Input(Section):
    """Where a prompt goes, and how."""

    selector: StepSelector = Field(description="a selector of the field a prompt goes into")
    methods: Annotated[
        tuple[Literal["setter", "fill", "insert_text", "paste", "lines"], ...], AfterValidator(distinct("method"))
    ] = Field(default=("setter", "fill"), min_length=1, description="the ways to fill it, tried in order")
    line_break: str | None = Field(
        default=None,
        pattern=LINE_BREAK_KEY,
        description="with the method lines: the key that breaks a line, such as Shift+Enter",
    )

    @model_validator(mode="after")
    def _lines_need_their_key(self) -> Self:
        if ("lines" in self.methods) != (self.line_break is not None):
            raise ValueError("line_break goes with the method lines, and only with it")
        return self


class Upload(Section):
    """How the page takes images. They go there after the text of the prompt, and before it is sent."""

    selector: StepSelector = Field(description="a selector of the file input; with paste, of the element to paste into")
    method: Literal["file_input", "paste"] = Field(default="file_input", description="the way to give them to the page")
    actions: Actions = Field(default=(), description="the steps that bring the file input up")
    done: Selector = Field(
        description="a CSS selector that finds a visible element for each image once the page has taken it"
    )
    max_images: int = Field(default=10, ge=1, le=50, description="how many images a prompt may have")
    max_image_bytes: int = Field(
        default=5 * 1024 * 1024, ge=1, le=50_000_000, description="how large an image may be, in bytes"
    )
    timeout_s: Seconds = Field(default=30.0, description="how long the page may take to take them, in seconds")


class SendRequest(Section):
    """The page's own request that carries the prompt to the site: where it fails, the prompt has failed."""

    url: AddressPattern = Field(description="a pattern of the request's full address, * for any characters")
    method: Method = Field(default="POST", description="the HTTP method of the request")


class SentPrompt(Section):
    """Where to find the prompt as the page has sent it: in its own request, or in what it then shows.

    `browser.check` compares it with the prompt that was asked; a child does so with `verify`.
    """

    url: AddressPattern | None = Field(
        default=None, description="a pattern of the full address of the request with the prompt, * for any characters"
    )
    method: Method = Field(default="POST", description="the HTTP method of the request")
    json_path: Expression | None = Field(
        default=None,
        alias="json",
        description="with url: a JMESPath for the prompt in the request's body, which is JSON",
    )
    form: Line | None = Field(
        default=None,
        description="with url: the form field with the prompt, urlencoded or multipart; with neither json nor form the "
        "body as a whole is the prompt",
    )
    selector: StepSelector | None = Field(
        default=None, description="instead of url: a selector of prompts on the page; the last one is the newest"
    )
    verify: bool = Field(
        default=False, description="true: a prompt that was sent otherwise fails with the error prompt_changed"
    )

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.url is None) == (self.selector is None):
            raise ValueError("needs url or selector, and not both")
        if self.selector is not None and {"json_path", "form", "method"} & self.model_fields_set:
            raise ValueError("json, form and method go with url, and not with selector")
        if self.json_path is not None and self.form is not None:
            raise ValueError("needs json or form, and not both")
        return self


class Send(Section):
    """How to send the prompt."""

    actions: Actions = Field(min_length=1, description="the steps that send the prompt")
    request: SendRequest | None = Field(
        default=None,
        description="a table with url and method: the page's request that carries the prompt; one that fails, or is "
        "answered with status 400 or more, ends the prompt at once",
    )
    prompt: SentPrompt | None = Field(
        default=None,
        description="a table: where to find the prompt as the page has sent it, to compare it with the one asked",
    )


class Stop(Section):
    """How to stop an answer that nobody wants any more."""

    actions: Actions = Field(default=(), description="the steps that stop an answer")
    answering: Selector | None = Field(
        default=None, description="a CSS selector of an element that is visible while an answer is being written"
    )


NetworkKind = Literal["sse", "jsonl", "websocket", "msgpack"]
"""How events come; `browser.capture.framing.WIRE_FORMATS` says how each is read."""

EXPRESSION_KEYS = (
    "start",
    "same",
    "error",
    "document",
    "changes",
    "message",
    "begins",
    "text",
    "whole",
    "reasoning",
    "reasoning_whole",
    "end_after",
    "end",
)
"""The keys of `capture.network` that hold a JMESPath, in the order in which they are looked at."""


class Network(Section):
    """An answer read from the page's own traffic.

    The expressions see each event as {"event": its name or null, "data": its JSON or text}, and with
    `document` also as "document": what the events so far have made of it.
    """

    kind: NetworkKind = Field(description="how the events come")
    url: Annotated[Text, AfterValidator(traffic_pattern)] = Field(
        description="a pattern of the request's full address, * for any characters"
    )
    method: Method | None = Field(default=None, description="the HTTP method of the request, any when not given")
    prefix: str = Field(default="", description="what stands before each event's data; events without it are skipped")
    event_names: Annotated[tuple[Line, ...], AfterValidator(distinct("name"))] = Field(
        default=("message",), min_length=1, description="with EventSource: the names of the events to listen for"
    )
    start: Expression | None = Field(
        default=None, description="a JMESPath that is true for an answer's first event; events before it do not count"
    )
    text: Expression | None = Field(
        default=None, description="a JMESPath for the answer's next part in an event; null or false: none"
    )
    whole: Expression | None = Field(
        default=None, description="a JMESPath for the whole answer so far in an event; null or false: none"
    )
    reasoning: Expression | None = Field(
        default=None, description="a JMESPath for the reasoning's next part in an event; null or false: none"
    )
    reasoning_whole: Expression | None = Field(
        default=None, description="a JMESPath for the whole reasoning so far in an event; null or false: none"
    )
    message: Expression | None = Field(
        default=None, description="a JMESPath for the id of the message that an event's text belongs to"
    )
    begins: Expression | None = Field(
        default=None, description="a JMESPath for the id of a message that begins; text of other messages is skipped"
    )
    document: Expression | None = Field(
        default=None, description="a JMESPath for the whole document that later changes apply to; null or false: none"
    )
    changes: Expression | None = Field(
        default=None,
        description="a JMESPath for changes to the document: a list of [append, replace, add or delete, path, value]",
    )
    same: Expression | None = Field(
        default=None,
        description="a JMESPath for a value that the answer's events share; events with another value are skipped",
    )
    end: Expression | None = Field(default=None, description="a JMESPath that is true for the answer's last event")
    end_data: Text | None = Field(default=None, description="the data of the last event as it stands, such as [DONE]")
    end_after: Expression | None = Field(
        default=None, description="a JMESPath that is true for an event; end and end_data count only in later ones"
    )
    error: Expression | None = Field(default=None, description="a JMESPath for the site's error message")
    ready_frames: tuple[Text, ...] = Field(
        default=(),
        description="patterns of a frame that the page sends once all its traffic goes over this websocket",
    )

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        if self.text is None and self.whole is None:
            raise ValueError("needs text or whole, to know what the answer is")
        if (self.document is None) != (self.changes is None):
            raise ValueError("document and changes go together")
        if self.begins is not None and self.message is None:
            raise ValueError("begins needs message, to know which one an event's text is of")
        over_websocket = self.kind in ("websocket", "msgpack")
        if over_websocket and self.end is None and self.end_data is None:
            raise ValueError("a websocket stays open after an answer: needs end or end_data")
        if self.end_after is not None and self.end is None and self.end_data is None:
            raise ValueError("end_after needs end or end_data, to know what comes after it")
        if self.ready_frames and not over_websocket:
            raise ValueError("ready_frames goes with kind = 'websocket' or 'msgpack' only")
        if self.prefix and self.kind == "msgpack":
            raise ValueError("prefix stands before text, and a frame of MessagePack is none")
        return self

    @property
    def expressions(self) -> dict[str, str]:
        """The expressions that the file has, by their keys."""
        return {key: text for key in EXPRESSION_KEYS if (text := getattr(self, key))}


class Dom(Section):
    """An answer read from the page itself."""

    answer: Selector = Field(description="a CSS selector of answers; the last one is the newest")
    done: Selector | None = Field(default=None, description="a CSS selector that matches once the answer is complete")
    busy: Selector | None = Field(default=None, description="a CSS selector that matches as long as it is not")
    loading: Selector | None = Field(
        default=None,
        description="a CSS selector of placeholders, such as skeletons, that stand in an answer for what is drawn "
        "later than what follows it: as long as one is visible, nothing is passed on, and the answer is not complete",
    )
    error: Selector | None = Field(default=None, description="a CSS selector of the site's error message")
    reasoning: Selector | None = Field(
        default=None,
        description="a CSS selector of the reasoning of answers; the last one is the newest, and is no answer's text",
    )
    ignore: Annotated[Selector, AfterValidator(inner_selector)] | None = Field(
        default=None, description="a CSS selector of what in an answer is not its text"
    )
    read: Literal["text", "rendered", "markdown"] = Field(
        default="text",
        description="text: as it stands in the page; rendered: with the line breaks that are visible; "
        "markdown: converted back to Markdown, for pages that render it",
    )
    stream: bool = Field(
        default=True, description="true: pass text on as it comes; false: once complete, for pages that rewrite it"
    )
    hold_from: RegularExpression | None = Field(
        default=None,
        description="a regular expression: from its first match on, text is passed on only once the answer is "
        "complete, for pages that rewrite what follows",
    )
    settle_s: float = Field(
        default=0.0,
        ge=0,
        le=60,
        description="how long nothing may change before the answer counts as complete, in seconds",
    )

    @model_validator(mode="after")
    def _knows_its_end(self) -> Self:
        if self.done is None and self.busy is None:
            raise ValueError("needs done or busy, to know when an answer is complete")
        if self.hold_from is not None and not self.stream:
            raise ValueError("hold_from needs stream = true: without it nothing is passed on before the end")
        return self


class Capture(Section):
    """Where answers are read: from the page's traffic, from the page, or from the page where the traffic fails."""

    network: Network | None = Field(default=None, description="a table: how to read answers from the page's traffic")
    dom: Dom | None = Field(default=None, description="a table: how to read answers from the page")
    verify: bool = Field(
        default=False, description="true: an answer of the traffic counts only if the page then shows the same text"
    )

    @model_validator(mode="after")
    def _not_empty(self) -> Self:
        if self.network is None and self.dom is None:
            raise ValueError("needs a table network or dom, or both")
        if self.verify and (self.network is None or self.dom is None):
            raise ValueError("verify needs both tables, network and dom, to compare what they read")
        return self


PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")
"""A name in braces that a request fills in. JSON holds none of these: its names stand in quotes."""


def _template(*must: str, may: tuple[str, ...] = ()) -> AfterValidator:
    """Return the check of a text that must hold some placeholders, and may hold others."""

    def check(text: str) -> str:
        found = set(PLACEHOLDER.findall(text))
        if unknown := sorted(found - {*must, *may}):
            known = ", ".join(f"{{{name}}}" for name in (*must, *may)) or "none"
            raise ValueError(f"there is no placeholder {{{unknown[0]}}}; known here: {known}")
        if missing := [name for name in must if name not in found]:
            raise ValueError(f"needs the placeholder {{{missing[0]}}}")
        return text

    return AfterValidator(check)


class PromptTexts(Section):
    """How the page is told of tools and formats. What is left out stays as docs/sites.md shows."""

    call_begin: Line | None = Field(default=None, description="the line that begins a call of a tool")
    call_end: Line | None = Field(default=None, description="the line that ends it; between the two stands its JSON")
    tools: Annotated[Text, _template("call", "tools", may=("count", "choice"))] | None = Field(
        default=None,
        description="how tools are told of: {call} is the form of a call, {tools} the list, {count} says how many "
        "calls may be made, {choice} whether one must be",
    )
    json_object: Annotated[Text, _template()] | None = Field(default=None, description="how a JSON object is asked for")
    json_schema: Annotated[Text, _template("schema")] | None = Field(
        default=None, description="how JSON is asked for that fits the JSON Schema {schema}"
    )
    repair_call: Annotated[Text, _template("problem", "call", may=("names", "count", "choice"))] | None = Field(
        default=None,
        description="how a call is asked for once more: {problem} says what was wrong with the answer, {names} which "
        "tools there are; {call}, {count} and {choice} as in tools",
    )
    repair_json: Annotated[Text, _template("problem", may=("format",))] | None = Field(
        default=None,
        description="how JSON is asked for once more: {problem} as above, {format} is json_object or json_schema",
    )

    @model_validator(mode="after")
    def _ends_differ(self) -> Self:
        # One that is left out is a code fence's: see api_utils.prompt_form.
        if (self.call_begin or "```tool_call") == (self.call_end or "```"):
            raise ValueError("call_begin and call_end must differ, to tell where a call ends")
        for key, line in (("call_begin", self.call_begin), ("call_end", self.call_end)):
            if line and not line.strip('{}[],"'):
                raise ValueError(f"{key} may be a line of a call's own JSON: give it a letter, or another sign")
        return self


class Model(Section):
    """A model that a request may ask for."""

    name: Line = Field(description="the name that a request gives as its model")
    choose: Actions = Field(default=(), description="the steps that choose it on an empty conversation")


class Refusal(Section):
    """How the site refuses a prompt, and what follows from it."""

    text: Words | None = Field(default=None, description="a part of the site's error message, in any case")
    status: int | None = Field(default=None, ge=400, le=599, description="the HTTP status of the answer's request")
    means: Literal["quota", "login_expired", "refused", "site_error"] = Field(
        description="what follows: the login rests; a new login is needed; this prompt alone is refused; it is a fault"
    )
    rest_s: Seconds | None = Field(default=None, description="with quota: how long to rest, in seconds")

    @model_validator(mode="after")
    def _not_empty(self) -> Self:
        if self.text is None and self.status is None:
            raise ValueError("needs text or status")
        if self.rest_s is not None and self.means != "quota":
            raise ValueError("rest_s goes with quota only")
        return self


class Readiness(Section):
    """When the page can take a prompt."""

    selector: Selector | None = Field(
        default=None,
        description="a CSS selector of what is visible once the page can take a prompt; with login.none the input "
        "when not given",
    )
    timeout_s: Seconds = Field(default=30.0, description="how long the page may take to load, in seconds")


class Check(Section):
    """What the regular check of the page may do beside looking at it (SITE_CHECK_S of the coordinator)."""

    prompt: Words | None = Field(
        default=None,
        description="a prompt that each check sends, and reads the answer of; none is sent when not given, and what "
        "only an answer shows is not checked then",
    )


class Site(Section):
    """One chat page, as its site file describes it."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,39}$")] = Field(
        description="a short name of lower-case letters, digits, - and _"
    )
    url: Annotated[str, AfterValidator(web_url)] = Field(description="the address of the chat page")
    login: Login = Field(description="a table: how to tell logged in from logged out")
    fresh_chat: FreshChat = Field(description="a table: how to open an empty conversation")
    input: Input = Field(description="a table: where a prompt goes and how")
    upload: Upload | None = Field(default=None, description="a table: how the page takes images, if it does")
    send: Send = Field(description="a table: how to send the prompt")
    stop: Stop = Field(default_factory=Stop, description="a table: how to stop an answer")
    capture: Capture = Field(description="a table: where answers are read")
    model_choices: tuple[Model, ...] = Field(
        min_length=1, alias="models", description="a list of tables, each with the name of a model"
    )
    prompt: PromptTexts = Field(
        default_factory=PromptTexts, description="a table: how the page is told of tools and formats"
    )
    refusals: tuple[Refusal, ...] = Field(default=(), description="a list of tables: how the site refuses prompts")
    readiness: Readiness = Field(
        default_factory=Readiness, validate_default=True, description="a table: when the page can take a prompt"
    )
    check: Check = Field(default_factory=Check, description="a table: what the regular check of the page may do")
    local_network: bool = Field(
        default=False,
        description="true: the page itself needs services of this machine or its network; Chromium then lets it "
        "reach all of them",
    )
    _file: str = PrivateAttr(default="the site file")
    _text: str = PrivateAttr(default="")

    @field_validator("send")
    @classmethod
    def _sends_by_another_key(cls, send: Send, info: ValidationInfo) -> Send:
        field: Input | None = info.data.get("input")  # none, if it is wrong itself
        presses = [
            action.press for action in send.actions if action.press and action.on in (None, field and field.selector)
        ]
        if field and field.line_break in presses:
            raise ValueError("the key that sends the prompt cannot be input.line_break too")
        return send

    @field_validator("readiness")
    @classmethod
    def _can_be_seen(cls, readiness: Readiness, info: ValidationInfo) -> Readiness:
        login, field = info.data.get("login"), info.data.get("input")  # none, if they are wrong themselves
        if login and login.none and field and not readiness.selector and path_or_none(field.selector) is None:
            raise ValueError(
                "needs selector: with login.none, and an input.selector that is no CSS, nothing else tells"
            )
        return readiness

    @field_validator("model_choices")
    @classmethod
    def _distinct(cls, models: tuple[Model, ...]) -> tuple[Model, ...]:
        if len({model.name for model in models}) != len(models):
            raise ValueError("each model's name may stand there once")
        return models

    def read_from(self, file: str, text: str) -> Self:
        """Note the file's name and its text, by which `place` finds the lines of keys; return this Site."""
        self._file, self._text = file, text
        return self

    def place(self, path: Path) -> str:
        """Return where the key at this path stands: the file's name and the line, without the file's folder."""
        return f"{self._file}, line {line_of(key_lines(self._text), path)}" if self._text else self._file

    @property
    def ready_selector(self) -> str | None:
        """What is visible once the page can take a prompt; without a login nothing else tells of it but the input."""
        return self.readiness.selector or (self.input.selector if self.login.none else None)

    @property
    def secrets(self) -> frozenset[str]:
        """The names of the secrets that the steps of the login fill in."""
        return frozenset(name for step in self.login.steps for name in step.secrets)

    @property
    def models(self) -> tuple[str, ...]:
        """The names of the models, in the order of the file."""
        return tuple(model.name for model in self.model_choices)

    @property
    def origin(self) -> str:
        """The site's origin as a browser writes it: scheme, host, and the port if it is not the usual one."""
        parts = urlsplit(self.url)
        host = parts.hostname or ""
        host = f"[{host}]" if ":" in host else host
        usual = {"http": 80, "https": 443}[parts.scheme]
        port = "" if parts.port in (None, usual) else f":{parts.port}"
        return f"{parts.scheme}://{host}{port}"

    def address(self, relative: str) -> str:
        """Return the full address of one that is relative to the site's."""
        return urljoin(self.url, relative)

    @property
    def opens_empty(self) -> bool:
        """Whether an empty conversation is opened by loading the page, and by nothing else."""
        return [action.goto and self.address(action.goto) for action in self.fresh_chat.actions] == [self.url]


def glob_to_regex(pattern: str) -> str:
    """Return a regular expression, for Python and JavaScript alike, that matches what the pattern matches."""
    parts = (re.sub(r"[^\w\s]", r"\\\g<0>", part) for part in pattern.split("*"))
    return f"^{'.*'.join(parts)}$"
