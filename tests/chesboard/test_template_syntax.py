import jinja2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chesboard.configs import ScoreConfig
from chesboard.template_syntax import (
    bind_arguments,
    check_arguments,
    check_template,
    literal,
    unread_arguments,
)

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec="ascii")), inner),
    max_leaves=6,
)


@given(json_values)
def test_every_json_value_is_written_as_jinja_reads_it(value):
    seen = []
    template = jinja2.Environment().from_string("{{ see(" + literal(value) + ") }}")
    template.render(see=seen.append)
    assert seen == [value]


@pytest.mark.parametrize(
    "template",
    [
        "{% for m in messages %}{{ m.content }}{% endfor %}",
        "{% generation %}{{ messages[0].content }}{% endgeneration %}",
        "{% for m in messages %}{% if loop.last %}{% break %}{% endif %}{% endfor %}",
        "{{ messages | tojson(indent=2) }}",
    ],
)
def test_the_syntax_of_chat_templates_is_known(template):
    check_template(template)


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("{% for m in messages %}", "line 1"),
        ("a\n{{ messages | shout }}", "line 2: No filter named 'shout'"),
        ("{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}", "nested too deeply"),
    ],
)
def test_what_is_no_template_is_refused_with_its_line(template, says):
    with pytest.raises(ValueError, match=f"This is no Jinja template: .*{says}"):
        check_template(template)
    with pytest.raises(ValueError, match="chat_template"):
        ScoreConfig(chat_template=template)


@pytest.mark.parametrize("name", ["tokenize", "messages", "return_tensors", "loop", "strftime_now"])
def test_names_that_others_set_are_refused(name):
    with pytest.raises(ValueError, match=f"`{name}` is reserved"):
        ScoreConfig(chat_template_kwargs={name: True})


@pytest.mark.parametrize("name", ["", "a b", "1a", "_private", "true", "none"])
def test_names_that_no_variable_can_have_are_refused(name):
    with pytest.raises(ValueError, match="is not the name of a variable"):
        check_arguments({name: 1})


def test_arguments_that_cannot_be_stored_are_refused():
    with pytest.raises(ValueError, match="finite"):
        check_arguments({"a": [{"b": float("nan")}]})
    with pytest.raises(ValueError, match="at most 20,000 characters"):
        check_arguments({"a": "x" * 20_000})


def test_arguments_that_a_template_does_not_read_are_named():
    template = "{% set seen = 1 %}{% if enable_thinking %}{{ date_string }}{% endif %}"
    arguments = {"enable_thinking": True, "enable_thinkin": True, "seen": 2}
    assert unread_arguments(template, arguments) == ["enable_thinkin", "seen"]


def test_bound_arguments_leave_the_text_of_the_template_as_it_is():
    render = jinja2.Environment(trim_blocks=True, lstrip_blocks=True).from_string
    bound = bind_arguments("\n  {{ a }} {{ b }}", {"a": "x", "b": [1]}, as_defaults=False)
    assert render(bound).render(a="other") == "\n  x [1]"


def test_defaults_give_way_to_what_is_passed():
    bound = bind_arguments("{{ a }}", {"a": False}, as_defaults=True)
    template = jinja2.Environment().from_string(bound)
    assert template.render() == template.render(a=None) == "False"
    assert template.render(a=True) == "True"
    assert unread_arguments(bound, {"a": 1}) == []
