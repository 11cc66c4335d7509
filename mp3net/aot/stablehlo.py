"""StableHLO text, the form in which a training step travels from TensorFlow to another compiler."""

import itertools
import re

# A location in place: loc(#loc3), loc("name"("file":1:2)), loc(callsite(...)); strings may hold parentheses.
_FLAT = r'[^()"]|"(?:[^"\\]|\\.)*"'
_DEEP = rf"{_FLAT}|\((?:{_FLAT}|\((?:{_FLAT}|\((?:{_FLAT})*\))*\))*\)"
_LOCATION = re.compile(rf" loc\((?:{_DEEP})*\)")
_LOCATION_LINE = re.compile(r"^#loc.*\n?", re.MULTILINE)
_COPY = re.compile(r"= mhlo\.copy (%[\w#]+) : (tensor<[^>]*>)")
_ALL_REDUCE = re.compile(r'("stablehlo\.all_reduce"\(.*?\) <\{)(replica_groups = dense<.*?> : tensor<\w+>)\}>')
_ALIAS = re.compile(r"parameter_number = (\d+) : i64}, output_index = array<i64(?:: (\d+))?>")


def plain(text):
    """A program as other compilers take it, and the same for the same program wherever and whenever it was traced.

    Locations go; each `mhlo.copy`, which only TensorFlow's own compiler knows, becomes a reshape to the same type;
    names, in which TensorFlow counts what it has traced before, are numbered.
    """
    text = _LOCATION_LINE.sub("", _LOCATION.sub("", text))
    text = _COPY.sub(r"= stablehlo.reshape \1 : (\2) -> \2", text)
    text = re.sub(r"^module @\S+", "module @step", text, count=1, flags=re.MULTILINE)
    numbers = {name: i for i, name in enumerate(re.findall(r"func\.func private @([\w.$-]+)\(", text))}
    return re.sub(r"@([\w.$-]+)", lambda at: f"@part{numbers[at[1]]}" if at[1] in numbers else at[0], text)


def arguments(text):
    """The (shape, dtype) of each argument of `main`, dtypes as StableHLO names them."""
    header = re.search(r"func\.func (?:public )?@main\((.*?)\) ->", text, re.DOTALL)[1]
    return [_type(found) for found in re.findall(r"%arg\d+: tensor<([^>]*)>", header)]


def results(text):
    """The (shape, dtype) of each result of `main`."""
    header = re.search(r"func\.func (?:public )?@main\(.*?\) -> (.*?) \{\n", text, re.DOTALL)[1]
    return [_type(tensor) for tensor in re.findall(r"tensor<([^>]*)>", header)]


def over_devices(text):
    """The program with its all-reduces over the devices of one program, as JAX runs it, not over copies of it."""
    number = itertools.count(1)

    def channel(at):
        handle = f"#stablehlo.channel_handle<handle = {next(number)}, type = 1>"
        return f"{at[1]}channel_handle = {handle}, {at[2]}, use_global_device_ids}}>"

    return _ALL_REDUCE.sub(channel, text)


def with_unused(text, types):
    """The program with more arguments, of (shape, dtype), which it does not use: what else stands in memory."""
    tensors = [f"tensor<{'x'.join(map(str, [*shape, dtype]))}>" for shape, dtype in types]
    names = [f"%arg{i}: {tensor}" for i, tensor in enumerate(tensors, len(arguments(text)))]
    main = re.search(r"func\.func (?:public )?@main\(.*?(?=\) ->)", text, re.DOTALL)
    return ", ".join([text[: main.end()], *names]) + text[main.end() :]


def aliases(text):
    """Which argument each output replaces, by index: the updated variables, and the variables."""
    header = text[: text.index("func.func")]
    return {int(output or 0): int(argument) for argument, output in _ALIAS.findall(header)}


def _type(text):
    *shape, dtype = text.split("x")
    return [int(size) for size in shape], dtype
