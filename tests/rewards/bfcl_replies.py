"""Replies made from BFCL's answer keys, right ones and mutated ones. The tests and `benchmarks/verify.py` use them."""

import random
import re
from dataclasses import dataclass, field


def case_of(task):
    return task.meta["functions"], task.meta.get("possible_answer"), task.meta["category"]


# ------------------------------------------------------------------------------------- replies from answer keys


@dataclass
class Written:
    """A call as text in parts: what the mutations below change."""

    name: str
    arguments: list[list[str]]
    positional: list[str] = field(default_factory=list)

    def __str__(self):
        return f"{self.name}({', '.join([*self.positional, *('='.join(pair) for pair in self.arguments)])})"


def concrete(allowed, pick):
    """One of the allowed values, with one value for each key of a dict; None if the argument should be left out."""
    return settle(choose(allowed, pick), pick)


def choose(allowed, pick):
    choices = [value for value in allowed if value != ""]
    return choices[pick % len(choices)] if choices else None


def settle(value, pick):
    if isinstance(value, dict):
        settled = {name: choose(inner, pick) for name, inner in value.items()}
        return {name: inner for name, inner in settled.items() if inner is not None}
    return [settle(item, pick) for item in value] if isinstance(value, list) else value


def gold(key, pick=0, optional=True):
    calls = []
    for name, arguments in (pair for call in key for pair in call.items()):
        chosen = {a: v for a, v in arguments.items() if optional or "" not in v}
        pairs = [[argument, concrete(allowed, pick)] for argument, allowed in chosen.items()]
        calls.append(Written(name, [[argument, repr(value)] for argument, value in pairs if value is not None]))
    return calls


def text_of(calls):
    return f"[{', '.join(map(str, calls))}]"


# --------------------------------------------------------------------------------------------- mutated replies


def every_value(change):
    """A mutation of the text of one argument's value, chosen at random."""

    def mutate(calls, rng, task):
        if spots := [pair for call in calls for pair in call.arguments]:
            pair = rng.choice(spots)
            pair[1] = change(pair[1])
        return text_of(calls)

    return mutate


def whole(change):
    return lambda calls, rng, task: change(text_of(calls))


def first_call(change):
    def mutate(calls, rng, task):
        change(calls[0], rng)
        return text_of(calls)

    return mutate


def drop_argument(call, rng):
    if call.arguments:
        call.arguments.pop(rng.randrange(len(call.arguments)))


def rename_argument(call, rng):
    if call.arguments:
        rng.choice(call.arguments)[0] += "_x"


def make_positional(call, rng):
    if call.arguments:
        call.positional.append(call.arguments.pop(0)[1])


def repeat_argument(value):
    def change(call, rng):
        if call.arguments:
            name, given = rng.choice(call.arguments)
            call.arguments.append([name, given if value is None else value])

    return change


def reverse_arguments(call, rng):
    call.arguments.reverse()


def rename(new):
    def change(call, rng):
        call.name = new(call.name)

    return change


def add_schema_argument(calls, rng, task):
    functions = {function["name"]: function for function in task.meta["functions"]}
    call = rng.choice(calls)
    properties = functions[call.name]["parameters"]["properties"] if call.name in functions else {}
    missing = [name for name in properties if name not in [pair[0] for pair in call.arguments]]
    if missing:
        call.arguments.append(
            [rng.choice(missing), rng.choice(["''", "1", "None", "[]", "{}", "True", "'x'", "'. -'"])]
        )
    return text_of(calls)


def other_tool(calls, rng, task):
    calls[0].name = rng.choice(task.meta["functions"])["name"]
    return text_of(calls)


def shuffled(calls, rng, task):
    rng.shuffle(calls)
    return text_of(calls)


def only_inside_quotes(change):
    return lambda value: re.sub(r"'([^'\\]*)'", lambda found: f"'{change(found[1])}'", value)


# separated by two spaces or a new line
VALUES = re.split(
    r"  +|\n",
    r"""None  True  False  0  1  -1  3.5  5.0  1e3  1e400  'x'  ''  '5'  ...  []  [1]  ['']  [[]]  ()  (1,)  {}
{'a': 1}  {1: 2}  {'a': {'b': [1]}}  [{}]  [{'a': 1}]  {1, 2}  b'x'  1j  x  true  null  Color.RED  d['k']
d["k"]  d[0]  d[1:2]  d[1, 2]  g()  g(1)  g(a=1)  dict(a=1)  g(h(a=1))  g(**k)  f'x'  f'{1}'  'a' 'b'  r'\d'
'''x'''  u'x'  0x10  1_000  0o7  lambda: 1  lambda x: x  [i for i in x]  1 if x else 2  1 < 2  1 and 2  not True
+5  ~5  --5  -True  -x  -'a'  -None  -1.5  -(1)  -(1+2)  not 0  -1j  *x  x:=1  1+2  10/2  7//2  7%4  2**3  2**-1
1-1  'a'+'b'  'ab'*2  [1]+[2]  [0]*3  (1,)+(2,)  1<<3  6>>1  6&3  6|1  6^2  1@2  1/0  1+x  x+1  1+True  -1+2
~5+1  not 1+1  1.5*2  '%d' % 5  '%s-%s' % ('a', 1)  '%(a)s' % {'a': 1}  {1}|{2}  {'a': 1}|{'b': 2}  1+2j  'a'+1
1*1.5  [1+1, 2]  {'a': 1+1}  (1+1, 2)  1**200000  2**0.5  (-8)**0.5  {**x}  [*x]  {[]: 1}  1e308*10""",
)


def wrapped_value(template):
    return every_value(lambda value: template.replace("V", value))


MUTATIONS = {
    "as it is": whole(str),
    "name in capitals": first_call(rename(str.upper)),
    "name with underscores": first_call(rename(lambda name: name.replace(".", "_"))),
    "name cut": first_call(rename(lambda name: name.split(".")[-1])),
    "name prefixed": first_call(rename(lambda name: f"api.{name}")),
    "name on an index": first_call(rename(lambda name: f"x[0].{name}")),
    "name on a call": first_call(rename(lambda name: f"x().{name}")),
    "name on a text": first_call(rename(lambda name: f"'x'.{name}")),
    "name called twice": first_call(rename(lambda name: f"{name}()")),
    "name in parentheses": first_call(rename(lambda name: f"({name})")),
    "name in full width": first_call(rename(lambda name: chr(ord(name[0]) + 0xFEE0) + name[1:])),
    "name with spaces": first_call(rename(lambda name: f" {name.replace('.', ' . ')} ")),
    "another tool": other_tool,
    "argument dropped": first_call(drop_argument),
    "argument renamed": first_call(rename_argument),
    "argument added": first_call(lambda call, rng: call.arguments.append(["extra_x", "1"])),
    "argument of the schema added": add_schema_argument,
    "argument positional": first_call(make_positional),
    "all positional": first_call(lambda call, rng: [make_positional(call, rng) for _ in list(call.arguments)]),
    "junk positional": first_call(lambda call, rng: call.positional.append("999")),
    "starred": first_call(lambda call, rng: call.positional.append("*x")),
    "double starred": first_call(lambda call, rng: call.positional.append("**x") or call.arguments.clear()),
    "double starred last": whole(lambda text: text.replace(")]", ", **x)]")),
    "argument repeated": first_call(repeat_argument(None)),
    "argument repeated, other": first_call(repeat_argument("'other'")),
    "arguments reversed": first_call(reverse_arguments),
    "calls shuffled": shuffled,
    "call repeated": lambda calls, rng, task: text_of([*calls, calls[0]]),
    "call dropped": lambda calls, rng, task: text_of(calls[1:]),
    "call replaced by first": lambda calls, rng, task: text_of([calls[0]] * len(calls)),
    "calls separated by semicolons": lambda calls, rng, task: "; ".join(map(str, [*calls, calls[0]])),
    "calls on lines": lambda calls, rng, task: "\n".join(map(str, calls)),
    "calls on lines with commas": lambda calls, rng, task: ",\n".join(map(str, calls)),
    "call as a value": lambda calls, rng, task: f"[outer(a={calls[0]})]",
    "no brackets": lambda calls, rng, task: ", ".join(map(str, calls)),
    "only opening": whole(lambda text: text[:-1]),
    "only closing": whole(lambda text: text[1:]),
    "double brackets": whole(lambda text: f"[{text}]"),
    "parentheses": whole(lambda text: f"({text[1:-1]})"),
    "braces": whole(lambda text: f"{{{text[1:-1]}}}"),
    "two lists": whole(lambda text: f"{text}, {text}"),
    "sum of lists": whole(lambda text: f"{text} + {text}"),
    "trailing comma": whole(lambda text: f"{text[:-1]},]"),
    "leading comma": whole(lambda text: f"[,{text[1:]}"),
    "fence": whole(lambda text: f"```\n{text}\n```"),
    "fence with language": whole(lambda text: f"```python\n{text}\n```"),
    "backticks": whole(lambda text: f"`{text}`"),
    "quotes": whole(lambda text: f'"{text}"'),
    "single quotes": whole(lambda text: f"'{text}'"),
    "comment after": whole(lambda text: f"{text} # done"),
    "comment with bracket": whole(lambda text: f"{text} # done]"),
    "comment inside": whole(lambda text: text.replace("(", "( # why?\n", 1)),
    "call on a list": whole(lambda text: f"[f](a=1), {text[1:-1]} # ]"),
    "single call on a list": whole(lambda text: f"[f].{text[1:-1]} # ]"),
    "prose before": whole(lambda text: f"Sure! {text}"),
    "prose after": whole(lambda text: f"{text} is the call."),
    "only prose": whole(lambda text: "I cannot answer that."),
    "one word": whole(lambda text: "hello"),
    "empty": whole(lambda text: ""),
    "blank": whole(lambda text: " \n` "),
    "empty list": whole(lambda text: "[]"),
    "number": whole(lambda text: "42"),
    "tags": whole(lambda text: f"<think>x</think>{text}"),
    "tool call tags": whole(lambda text: f"<tool_call>{text}</tool_call>"),
    "json": whole(lambda text: '[{"name": "f", "arguments": {}}]'),
    "spaces around": whole(lambda text: f"  {text} \n"),
    "tab around": whole(lambda text: f"\t{text}"),
    "tab after": whole(lambda text: f"{text}\t"),
    "carriage return": whole(lambda text: f"{text}\r\n"),
    "carriage returns inside": whole(lambda text: text.replace(", ", ",\r\n")),
    "no-break space": whole(lambda text: f"\xa0{text}"),
    "byte order mark": whole(lambda text: f"\ufeff{text}"),
    "NUL": whole(lambda text: text.replace("(", "(\0", 1)),
    "surrogate": whole(lambda text: text.replace("'", "'\ud800", 1)),
    "spaces inside": whole(lambda text: text.replace("=", " = ").replace("(", "( ")),
    "newlines inside": whole(lambda text: text.replace(", ", ",\n    ")),
    "cut": lambda calls, rng, task: (text := text_of(calls))[: rng.randrange(len(text))],
    "cut and closed": lambda calls, rng, task: (text := text_of(calls))[: rng.randrange(len(text))] + ")]",
    "colons": whole(lambda text: text.replace("=", ": ")),
    "double quotes": whole(lambda text: text.replace("'", '"')),
    "value quoted": every_value(repr),
    "value unquoted": every_value(lambda value: value.strip("'")),
    "value in a list": wrapped_value("[V]"),
    "value in a tuple": wrapped_value("(V,)"),
    "value in parentheses": wrapped_value("(V)"),
    "value in a dict": wrapped_value("{'a': V}"),
    "value in a set": wrapped_value("{V}"),
    "value in a call": wrapped_value("g(V)"),
    "value in a named call": wrapped_value("g(a=V)"),
    "value negated": wrapped_value("-V"),
    "value plus": wrapped_value("+V"),
    "value inverted": wrapped_value("~V"),
    "value not": wrapped_value("not V"),
    "value plus zero": wrapped_value("V + 0"),
    "value plus empty": wrapped_value("V + ''"),
    "value plus empty list": wrapped_value("V + []"),
    "value twice": wrapped_value("V * 2"),
    "value once": wrapped_value("1 * V"),
    "value by one": wrapped_value("V / 1"),
    "value to the first": wrapped_value("V ** 1"),
    "value with a unit": wrapped_value("V 'kg'"),
    "value as float": every_value(lambda value: f"{value}.0" if value.isdigit() else value),
    "value as int": every_value(lambda value: value.removesuffix(".0")),
    "value a bit more": every_value(lambda value: value.replace("1", "1.0000001")),
    "list as tuple": every_value(lambda value: value.replace("[", "(").replace("]", ",)")),
    "list reversed": every_value(lambda value: repr(eval(value)[::-1]) if value.startswith("[") else value),
    "list shortened": every_value(lambda value: repr(eval(value)[1:]) if value.startswith("[") else value),
    "list doubled": every_value(lambda value: repr(eval(value) * 2) if value.startswith("[") else value),
    "ints as floats inside": every_value(lambda value: re.sub(r"\b(\d+)\b(?!['.\w])", r"\1.0", value)),
    "text in capitals": every_value(only_inside_quotes(str.upper)),
    "text without punctuation": every_value(only_inside_quotes(lambda text: re.sub(r"[ ,./_*^-]", "", text))),
    "text with punctuation": every_value(only_inside_quotes(lambda text: " ".join(text) + " .,/-_*^")),
    "text with a colon": every_value(only_inside_quotes(lambda text: f"{text}:")),
    "text with a tab": every_value(only_inside_quotes(lambda text: f"{text}\t")),
    "text with accents": every_value(only_inside_quotes(lambda text: text.replace("e", "é"))),
    "text in other quotes": every_value(only_inside_quotes(lambda text: f'"{text}"')),
    "text with another dot above": every_value(only_inside_quotes(lambda text: text.replace("i", "İ"))),
    "text emptied": every_value(only_inside_quotes(lambda text: "")),
    "text of punctuation": every_value(only_inside_quotes(lambda text: "-. ")),
    "all texts emptied": whole(only_inside_quotes(lambda text: "")),
    **{f"value {value}": every_value(lambda _, value=value: value) for value in VALUES},
}


def mutated_cases(tasks, rows, seed, *options):
    rng = random.Random(seed)
    with_key = [task for task in tasks if "possible_answer" in task.meta]
    for mutate in MUTATIONS.values():
        for task in rng.sample(with_key, rows):
            calls = gold(task.meta["possible_answer"], rng.randrange(3), rng.random() < 0.7)
            yield mutate(calls, rng, task), *case_of(task), *options
