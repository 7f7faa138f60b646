"""What a program sets for its whole process holds in its tasks: fork would have it so."""

from __future__ import annotations

import re
import sys
import textwrap
from typing import TYPE_CHECKING

import pytest
from poolscripts import run_with as run

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.parametrize(
    ("library", "method"),
    [("multiprocessing", "fork"), ("pool", ""), ("pool", "fork"), ("pool", "spawn")],
)


def test_limits_and_modes(library: str, method: str, tmp_path: Path) -> None:
    body = """
    import csv, decimal, gc, locale, socket, tempfile, threading, time

    sys.setrecursionlimit(5000)
    sys.setswitchinterval(0.25)
    sys.set_int_max_str_digits(0)
    sys.dont_write_bytecode = True
    gc.disable()
    gc.set_threshold(5, 6, 7)
    threading.stack_size(1 << 20)
    decimal.getcontext().prec = 5
    decimal.getcontext().traps[decimal.Inexact] = True
    decimal.DefaultContext.rounding = decimal.ROUND_DOWN
    socket.setdefaulttimeout(7)
    csv.field_size_limit(99_999)
    try:
        locale.setlocale(locale.LC_ALL, "C.UTF-8")
    except locale.Error:  # old systems do not have it
        print("no such locale")
        sys.exit()
    tempfile.tempdir = os.getcwd()
    os.umask(0o027)
    os.environ["TZ"] = "KST-9"
    time.tzset()

    def deep(n):
        return n and 1 + deep(n - 1)

    def look(_):
        context, fresh = decimal.getcontext(), decimal.DefaultContext
        umask = os.umask(0)
        os.umask(umask)
        stack = threading.stack_size()
        threading.stack_size(stack)
        return [
            deep(3000), sys.getswitchinterval(), len(str(10**5000)), sys.dont_write_bytecode,
            gc.isenabled(), gc.get_threshold(), stack,
            context.prec, context.traps[decimal.Inexact], fresh.rounding, fresh.prec,
            socket.getdefaulttimeout(), csv.field_size_limit(), locale.setlocale(locale.LC_ALL),
            tempfile.gettempdir() == os.getcwd(), oct(umask), time.tzname[0], time.timezone,
        ]

    here = look(0)
    with Pool(1) as p:
        (there,) = p.map(look, [0])
    print(there == here, there)
    """
    seen = (
        "3000, 0.25, 5001, True, False, (5, 6, 7), 1048576, 5, True, 'ROUND_DOWN', 28, "
        "7.0, 99999, 'C.UTF-8', True, '0o27', 'KST', -32400"
    )
    printed = run(library, method, body, tmp_path)
    if printed == "no such locale\n":
        pytest.skip("this system has no locale C.UTF-8")
    assert printed == f"True [{seen}]\n"


def test_arguments_and_levels_of_logging(library: str, method: str, tmp_path: Path) -> None:
    body = """
    import logging
    sys.argv[1:] = ["--verbose", "a file"]
    logging.disable(logging.WARNING)

    def look(_):
        log = logging.getLogger("a.b")
        levels = log.isEnabledFor(logging.WARNING), log.isEnabledFor(logging.ERROR)
        return sys.argv[0] == argv[0], sys.argv[1:], levels

    argv = [*sys.argv]
    with Pool(1) as p:
        print(p.map(look, [0]))
    """
    expected = "[(True, ['--verbose', 'a file'], (False, True))]\n"
    assert run(library, method, body, tmp_path) == expected


def test_warnings_filters(library: str, method: str, tmp_path: Path) -> None:
    body = """
    import warnings
    from xml.sax import SAXException

    class Mild(UserWarning):
        pass

    class Other(UserWarning):
        pass

    open("late.py", "w").write("class Late(FutureWarning): pass\\n")
    sys.path.insert(0, os.getcwd())
    import late

    warnings.simplefilter("error")
    warnings.simplefilter("ignore", Mild)
    warnings.filterwarnings("ignore", category=late.Late)
    warnings.filterwarnings("ignore", message=".*harmless", module=r"__main__$")

    def outcome(message, kind):
        try:
            warnings.warn(message, kind)
        except Warning as raised:
            return type(raised).__name__
        return "ignored"

    def look(number):
        if number == 0:
            return [outcome("x", Mild), outcome("x", Other), outcome("how harmless", Other)]
        import late
        return [outcome("x", late.Late), outcome("x", FutureWarning)]

    with Pool(1) as p:
        print(p.map(look, range(2)))
    """
    expected = "[['ignored', 'Other', 'ignored'], ['ignored', 'FutureWarning']]\n"
    assert run(library, method, body, tmp_path) == expected


def test_loggers(library: str, method: str, tmp_path: Path) -> None:
    body = """
    import logging

    class Upper(logging.Formatter):
        def format(self, record):
            return super().format(record).upper()

    logging.addLevelName(5, "TRACE")
    logging.basicConfig(level=5, format="%(levelname)s %(name)s %(message)s", stream=sys.stdout)
    own = logging.getLogger("report")
    own.propagate = False
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(Upper("%(processName)s %(message)s"))
    handler.addFilter(lambda record: "secret" not in record.getMessage())
    own.addHandler(handler)
    logging.getLogger("chatty").setLevel(logging.ERROR)
    logging.getLogger("off").disabled = True
    logging.captureWarnings(True)

    def work(n):
        logging.info("item %d", n)
        logging.log(5, "fine")
        own.info("told")
        own.info("a secret")
        logging.getLogger("chatty").warning("hidden")
        logging.getLogger("off").error("hidden")
        sys.stdout.flush()

    with Pool(1) as p:
        p.map(work, [1, 2], chunksize=1)
    """
    lines = ["INFO root item {}", "TRACE root fine", "WORKER TOLD"]
    expected = [line.format(n) for n in (1, 2) for line in lines]
    told = re.sub(r"\w*POOLWORKER-\d+", "WORKER", run(library, method, body, tmp_path))
    assert told.splitlines() == expected


@pytest.mark.parametrize("mode", ["w", "a"])
def test_log_files(library: str, method: str, mode: str, tmp_path: Path) -> None:
    body = f"""
    import logging
    mode = {mode!r}
    open("program.log", "w").write("before\\n")
    logging.basicConfig(filename="program.log", filemode=mode, level="INFO", format="%(message)s")

    def work(n):
        logging.info("task %d", n)

    logging.info("begin")
    with Pool(2) as p:
        for turn in range(3):
            p.map(work, range(turn * 100, turn * 100 + 100), chunksize=1)
            logging.info("turn %d", turn)
    logging.info("end")
    lines = open("program.log").read().splitlines()
    if mode == "a":
        assert lines.pop(0) == "before"
    assert lines[0] == "begin" and lines[-2:] == ["turn 2", "end"], lines
    tasks = sorted(int(line[5:]) for line in lines if line.startswith("task "))
    print(tasks == list(range(300)), len(lines))
    """
    assert run(library, method, body, tmp_path) == "True 305\n"


def test_numeric_libraries(library: str, method: str, tmp_path: Path) -> None:
    pytest.importorskip("pandas")
    body = """
    import numpy, pandas

    numpy.seterr(all="raise")
    numpy.set_printoptions(precision=2, formatter={"bool": lambda value: "yn"[not value]})
    pandas.set_option("display.max_rows", 4)
    pandas.options.display.float_format = "<{:.1f}>".format
    FACTOR = numpy.zeros(3)

    def look(_):
        try:
            1 / FACTOR
        except FloatingPointError:
            raised = True
        text = str(pandas.Series([1.25, 2.25] * 4))
        return raised, str(numpy.array([1 / 3])), str(numpy.array([True])), "<2.2>" in text, (
            text.count("\\n")
        )

    with Pool(1) as p:
        print(p.map(look, [0]) == [look(0)], look(0)[:4])
    """
    expected = "True (True, '[0.33]', '[y]', True)\n"
    assert run(library, method, body, tmp_path) == expected


def test_translations(library: str, method: str, tmp_path: Path) -> None:
    body = """
    import gettext, pathlib, struct

    def catalog(domain, entries):
        \"\"\"Write a file as msgfmt does.\"\"\"
        path = pathlib.Path("texts", "de", "LC_MESSAGES", domain + ".mo")
        path.parent.mkdir(parents=True, exist_ok=True)
        count, texts, tables = len(entries), b"", ([], [])
        start = 28 + 16 * count
        for table, words in zip(tables, (entries, entries.values())):
            for word in words:
                table += [len(word), start + len(texts)]
                texts += word + bytes(1)
        head = struct.pack("<7I", 0x950412DE, 0, count, 28, 28 + 8 * count, 0, start)
        path.write_bytes(head + struct.pack(f"<{4 * count}I", *tables[0], *tables[1]) + texts)

    plurals = b"Content-Type: text/plain; charset=UTF-8\\nPlural-Forms: nplurals=2; plural=n != 1;"
    catalog("own", {b"": plurals, b"day": b"Tag"})
    several = b"leaf\\0leaves", b"Blatt\\0Bl\\xc3\\xa4tter"
    catalog("other", {b"": plurals, several[0]: several[1], b"tree": b"Baum"})

    os.environ["LANGUAGE"] = "de"
    gettext.bindtextdomain("own", "texts")
    gettext.textdomain("own")
    gettext.translation("other", "texts", ["de"]).install(["ngettext"])

    def look(_number):
        return gettext.gettext("day"), _("tree"), [ngettext("leaf", "leaves", n) for n in (1, 2)]

    with Pool(1) as p:
        print(p.map(look, [0]))
    """
    assert run(library, method, body, tmp_path) == "[('Tag', 'Baum', ['Blatt', 'Blätter'])]\n"


def test_precision_of_numbers(library: str, method: str, tmp_path: Path) -> None:
    pytest.importorskip("mpmath")
    pytest.importorskip("gmpy2")
    body = """
    import gmpy2, mpmath

    mpmath.mp.dps = 40
    mpmath.iv.prec = 70
    gmpy2.get_context().precision = 200
    gmpy2.get_context().trap_divzero = True

    def look(_):
        try:
            gmpy2.mpfr(1) / 0
        except gmpy2.DivisionByZeroError:
            raised = True
        shown = mpmath.mpf(1) / 3, mpmath.iv.mpf(1) / 3, gmpy2.sqrt(gmpy2.mpfr(2))
        # The precision of the parts goes on to follow that of the whole.
        gmpy2.get_context().precision = 100
        return repr(shown), mpmath.mp.dps, gmpy2.get_context().real_prec, raised

    with Pool(1) as p:
        found = p.map(look, [0])
    print(found == [look(0)], found[0][1:])
    """
    assert run(library, method, body, tmp_path) == "True (40, 100, True)\n"


def test_settings_of_jax(library: str, method: str, tmp_path: Path) -> None:
    """A stand-in, with what is used of JAX: importing that takes seconds."""
    (tmp_path / "site-packages").mkdir()
    (tmp_path / "site-packages" / "jax.py").write_text(
        "class Config:\n"
        "    def __init__(self):\n"
        "        self._held = {\n"
        "            'jax_enable_x64': False, 'jax_debug_nans': False, 'jax_debug_infs': False,\n"
        "            'jax_disable_jit': False, 'jax_log_compiles': False, 'jax_platforms': None,\n"
        "            'jax_default_matmul_precision': None,\n"
        "            'jax_default_prng_impl': 'threefry2x32',\n"
        "            'jax_numpy_dtype_promotion': 'standard',\n"
        "            'jax_numpy_rank_promotion': 'allow',\n"
        "        }\n"
        "    values = property(lambda self: dict(self._held))\n"
        "    def update(self, name, value):\n"
        "        self._held[name] = value\n"
        "config = Config()\n"
    )
    body = """
    import sys
    sys.path.append("site-packages")
    import jax

    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_numpy_rank_promotion", "raise")

    def look(_):
        return jax.config.values

    with Pool(1) as p:
        print(p.map(look, [0]) == [look(0)], look(0)["jax_enable_x64"])
    """
    assert run(library, method, body, tmp_path) == "True True\n"


def test_prefixes_of_namespaces(library: str, method: str, tmp_path: Path) -> None:
    body = """
    from xml.etree import ElementTree

    ElementTree.register_namespace("shop", "http://example.com/shop")
    ElementTree.register_namespace("xs", "http://example.com/xs")

    def look(name):
        return ElementTree.tostring(ElementTree.Element("{http://example.com/%s}a" % name))

    with Pool(1) as p:
        for line in p.map(look, ["shop", "xs"]):
            print(line.decode())
    """
    expected = '<shop:a xmlns:shop="http://example.com/shop" />\n'
    expected += '<xs:a xmlns:xs="http://example.com/xs" />\n'
    assert run(library, method, body, tmp_path) == expected


def test_accessors_of_frames(library: str, method: str, tmp_path: Path) -> None:
    """Those of the main module, by which a task calls its functions without naming them."""
    pytest.importorskip("pandas")
    body = """
    import pandas

    factor = 3

    @pandas.api.extensions.register_series_accessor("shop")
    @pandas.api.extensions.register_dataframe_accessor("shop")
    class Shop:
        def __init__(self, held):
            self.held = held

        def total(self):
            return int(self.held.sum().sum()) * factor

    def look(frame):
        return frame.shop.total(), frame["a"].shop.total(), type(frame.shop) is Shop

    with Pool(1) as p:
        print(p.map(look, [pandas.DataFrame({"a": [1, 2], "b": [3, 4]})]))
    """
    assert run(library, method, body, tmp_path) == "[(30, 9, True)]\n"


def test_numbers_of_torch(library: str, method: str, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    body = """
    import torch

    torch.set_default_dtype(torch.float64)
    torch.set_float32_matmul_precision("high")
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.set_grad_enabled(False)
    torch.set_printoptions(precision=2)
    torch.set_default_device("meta")

    def look(_):
        modes = torch.get_float32_matmul_precision(), torch.is_grad_enabled()
        warns = torch.is_deterministic_algorithms_warn_only_enabled()
        return torch.ones(1).dtype, modes, warns, torch.ones(1).device.type, str(torch.ones(1))

    with Pool(1) as p:
        found = p.map(look, [0])
    print(found == [look(0)], found[0][1:4])
    """
    expected = "True (('high', False), True, 'meta')\n"
    assert run(library, method, body, tmp_path) == expected


def test_what_transformers_of_sklearn_return(library: str, method: str, tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    pytest.importorskip("pandas")
    body = """
    import sklearn
    from sklearn.preprocessing import StandardScaler

    sklearn.set_config(transform_output="pandas", assume_finite=True)

    def look(rows):
        scaled = StandardScaler().fit_transform(rows)
        return type(scaled).__name__, sklearn.get_config()["assume_finite"]

    with Pool(1) as p:
        print(p.map(look, [[[1.0], [2.0]]]))
    """
    assert run(library, method, body, tmp_path) == "[('DataFrame', True)]\n"


def test_images_that_are_opened(library: str, method: str, tmp_path: Path) -> None:
    """Limits that Pillow has in variables, and formats that are not its own."""
    pytest.importorskip("PIL")
    body = """
    import io
    from PIL import Image, ImageFile

    Image.MAX_IMAGE_PIXELS = None
    ImageFile.LOAD_TRUNCATED_IMAGES = True

    def open_dots(file, name):
        return Image.new("L", (len(file.read()), 1))

    def save_dots(image, file, name):
        file.write(b"." * image.width)

    Image.register_open("DOTS", open_dots, lambda prefix: prefix.startswith(b"."))
    Image.register_save("DOTS", save_dots)
    Image.register_extension("DOTS", ".dots")
    Image.register_mime("DOTS", "image/dots")
    picture = io.BytesIO()
    Image.effect_noise((64, 64), 50).save(picture, "png")

    def look(data):
        Image.open(io.BytesIO(b"...")).save("copy.dots")
        size = Image.open(io.BytesIO(data)).resize((9, 9)).size
        return Image.open("copy.dots").width, size, Image.MAX_IMAGE_PIXELS, Image.MIME["DOTS"]

    with Pool(1) as p:
        print(p.map(look, [picture.getvalue()[:2000]]))
    """
    assert run(library, method, body, tmp_path) == "[(3, (9, 9), None, 'image/dots')]\n"


def test_styles_of_figures(library: str, method: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    body = """
    import matplotlib
    matplotlib.use("svg")
    matplotlib.rcParams.update({"axes.grid": True, "lines.linewidth": 7})
    matplotlib.rcParams["axes.prop_cycle"] = matplotlib.cycler(color=["k", "r"])

    def look(_):
        from matplotlib import pyplot
        figure, axes = pyplot.subplots()
        axes.plot([1])
        (line,) = axes.plot([2])
        return pyplot.get_backend(), line.get_linewidth(), line.get_color()

    with Pool(1) as p:
        print(p.map(look, [0]))
    """
    assert run(library, method, body, tmp_path) == "[('svg', 7.0, 'r')]\n"


def test_loggers_of_modules(library: str, method: str, tmp_path: Path) -> None:
    """Configured by the program, or by the module when it is imported: here and in a worker."""
    for name, configures in (("configured", False), ("self_made", True)):
        lines = ["import logging, sys", "log = logging.getLogger('tool' if {0} else __name__)"]
        if configures:
            lines += ["handler = logging.StreamHandler(sys.stdout)", "log.addHandler(handler)"]
        lines += ["def work(n):", "    log.warning('%s %d', __name__, n)", "    sys.stdout.flush()"]
        source = "\n".join(lines).format(configures)
        (tmp_path / f"{name}.py").write_text(source + "\n")
    body = """
    import logging.config
    sys.path.insert(0, os.getcwd())
    import configured, self_made
    logging.config.dictConfig({
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"short": {"format": "<%(message)s>"}},
        "handlers": {"out": {
            "class": "logging.StreamHandler", "stream": sys.stdout, "formatter": "short",
        }},
        "loggers": {"configured": {"handlers": ["out"], "propagate": False}},
    })
    with Pool(1) as p:
        p.map(configured.work, [1])
        p.map(self_made.work, [2])
        p.map(self_made.work, [3])
    """
    expected = "<configured 1>\nself_made 2\nself_made 3\n"
    assert run(library, method, body, tmp_path) == expected


def test_loggers_of_other_classes(library: str, method: str, tmp_path: Path) -> None:
    """A package makes its logger when it is imported, and a program its own: as astropy does it."""
    source = """
    import logging

    class Careful(logging.Logger):
        def prepare(self):
            self.setLevel("INFO")

    usual = logging.getLoggerClass()
    logging.setLoggerClass(Careful)
    log = logging.getLogger(__name__)
    log.prepare()
    logging.setLoggerClass(usual)
    """
    for folder, name in ((tmp_path / "site-packages", "package"), (tmp_path, "module")):
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.py").write_text(textwrap.dedent(source))
    body = """
    import logging
    sys.path[:0] = [os.getcwd(), os.path.join(os.getcwd(), "site-packages")]
    import module, package

    class Loud(logging.Logger):
        def shout(self, text):
            return text.upper()

    logging.setLoggerClass(Loud)
    own = logging.getLogger("own")
    logging.setLoggerClass(logging.Logger)
    others = [module.log, package.log]
    for log in others:
        log.setLevel("ERROR")

    def look(_):
        return [(type(log).__name__, log.level, hasattr(log, "prepare")) for log in others]

    def again(_):
        import package
        return package.log.level, own.shout("x"), type(logging.getLogger("new")) is logging.Logger

    for work in (look, again):
        with Pool(1) as p:
            print(p.map(work, [0]))
    """
    expected = "[[('Careful', 40, True), ('Careful', 40, True)]]\n[(40, 'X', True)]\n"
    assert run(library, method, body, tmp_path) == expected


def test_a_package_that_makes_the_log_records(library: str, method: str, tmp_path: Path) -> None:
    """It is imported with the first record, which it may itself write while it is imported."""
    folder = tmp_path / "site-packages"
    folder.mkdir()
    source = """
    import logging

    log = logging.getLogger("package")
    log.addHandler(logging.NullHandler())
    log.propagate = False
    log.error("being imported")

    def make(*args, **more):
        record = logging.LogRecord(*args, **more)
        record.request = "r1"
        return record
    """
    (folder / "package.py").write_text(textwrap.dedent(source))
    body = """
    import logging
    sys.path.insert(0, os.path.join(os.getcwd(), "site-packages"))
    import package
    logging.setLogRecordFactory(package.make)
    logging.basicConfig(level="INFO", format="%(request)s %(message)s", stream=sys.stdout)

    def work(n):
        if n:
            logging.info("task %d", n)
        return "package" in sys.modules

    with Pool(1) as p:
        print(p.map(work, [0, 1, 2], chunksize=1))
    """
    inherited = method == "fork"
    expected = f"r1 task 1\nr1 task 2\n[{inherited}, True, True]\n"
    assert run(library, method, body, tmp_path) == expected


def test_structured_logging(library: str, method: str, tmp_path: Path) -> None:
    pytest.importorskip("structlog")
    body = """
    import logging, structlog

    seen = []

    def number(logger, name, event):
        seen.append(1)
        return {"number": len(seen), **event}

    structlog.configure(
        processors=[
            number,
            lambda logger, name, event: {**event, "level": name},
            structlog.processors.TimeStamper(fmt="%%", key="stamp"),
            structlog.processors.JSONRenderer(sort_keys=True),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stdout),
        cache_logger_on_first_use=True,
    )
    log = structlog.get_logger().bind(program="p")

    def work(n):
        structlog.get_logger().debug("hidden")
        log.info("task", n=n)
        sys.stdout.flush()
        return structlog.is_configured(), len(seen)

    with Pool(1) as p:
        print(p.map(work, [1, 2], chunksize=1))
    """
    lines = [
        f'{{"event": "task", "level": "info", "n": {n}, "number": {n}, "program": "p", '
        '"stamp": "%"}'
        for n in (1, 2)
    ]
    assert run(library, method, body, tmp_path).splitlines() == [*lines, "[(True, 1), (True, 2)]"]


def test_context_of_structured_logging(library: str, method: str, tmp_path: Path) -> None:
    """As it is when the pool is made, of each pool; without any configuration, too."""
    pytest.importorskip("structlog")
    body = """
    import threading
    from structlog import contextvars

    def work(n):
        return contextvars.get_contextvars()

    def call():
        with Pool(1) as p:
            print(p.map(work, [1, 2]))

    contextvars.bind_contextvars(run=1, lock=threading.Lock())
    contextvars.unbind_contextvars("lock")
    for run in (2, 3):
        contextvars.bind_contextvars(run=run)
        call()
    contextvars.clear_contextvars()
    call()
    """
    expected = "".join(f"[{context}, {context}]\n" for context in ({"run": 2}, {"run": 3}, {}))
    assert run(library, method, body, tmp_path) == expected


def test_odd_settings(library: str, method: str, tmp_path: Path) -> None:
    """None of them ends the pool, or keeps back the others."""
    body = """
    import enum, logging, tempfile
    from pathlib import Path
    import numpy

    class Level(enum.IntEnum):
        LOUD = 25

    class Name(str):
        pass

    class Record(logging.LogRecord):
        def __init__(self, *args, **more):
            super().__init__(*args, **more)
            self.request = "r1"

    class Odd(logging.Handler):
        @property
        def stream(self):
            return None

        def emit(self, record):
            pass

        def __getstate__(self):
            raise ValueError("not this one")

        def __del__(self):
            print("deleted", flush=True)

    class Keeps(logging.Handler):
        def __init__(self):
            super().__init__()
            self.lines = ["x"] * 100_000

        def emit(self, record):
            pass

    class Closes(logging.Handler):
        def __init__(self):
            super().__init__()
            self.file = open("log.txt", "a")

        def emit(self, record):
            self.file.write(record.getMessage() + "\\n")
            self.file.flush()

        def __del__(self):
            self.file.close()

    tempfile.tempdir = Path.cwd()
    logging.setLogRecordFactory(Record)
    numpy.seterrcall(lambda kind, flag: print("called", kind, flush=True))
    numpy.seterr(all="call")
    logging.basicConfig(level=Level.LOUD, format="%(request)s %(message)s", stream=sys.stdout)
    root = logging.getLogger()
    for handler in Odd(), Keeps(), Closes():
        root.addHandler(handler)
    logging.getLogger(Name("named")).setLevel(Level.LOUD)

    def work(n):
        logging.log(25, "loud %d", n)
        logging.info("hidden")
        numpy.float64(1) / n
        sys.stdout.flush()
        return os.path.samefile(tempfile.gettempdir(), os.getcwd()), int(logging.getLogger().level)

    with Pool(1) as p:
        print(p.map(work, [0]))
    logging.log(25, "here")
    print(open("log.txt").read().split())
    sys.stdout.flush()
    os._exit(0)
    """
    lines = ["r1 loud 0", "called divide by zero", "[(True, 25)]", "r1 here"]
    lines.append("['loud', '0', 'here']")
    assert run(library, method, body, tmp_path).splitlines() == lines


def test_decimal_context_of_a_thread_without_one(library: str, method: str, tmp_path: Path) -> None:
    """To make a pool does not give it one."""
    body = """
    import decimal
    with Pool(1) as p:
        p.map(abs, [1])
    decimal.DefaultContext.prec = 5
    print(decimal.Decimal(1) / 3)
    """
    assert run(library, method, body, tmp_path) == "0.33333\n"


def test_time_zone_that_is_taken_back(library: str, method: str, tmp_path: Path) -> None:
    body = """
    import time
    os.environ["TZ"] = "KST-9"
    time.tzset()
    with Pool(1) as p:
        print(p.map(time.strftime, ["%Z"]))
    del os.environ["TZ"]
    time.tzset()
    with Pool(1) as p:
        print(p.map(time.strftime, ["%Z"]) == [time.strftime("%Z")] != ["KST"])
    """
    assert run(library, method, body, tmp_path) == "['KST']\nTrue\n"


def test_what_a_module_sets_when_it_is_imported(library: str, method: str, tmp_path: Path) -> None:
    """It did so in the program too, which went on from there."""
    (tmp_path / "eager.py").write_text(
        "import logging, sys, warnings\n"
        "warnings.simplefilter('always')\n"
        "log = logging.getLogger('eager')\n"
        "log.setLevel(logging.CRITICAL)\n"
        "log.propagate = False\n"
        "def work(n):\n"
        "    warnings.warn('not to be seen')\n"
        "    log.info('item %d', n)\n"
        "    sys.stdout.flush()\n"
    )
    body = """
    import logging, warnings
    sys.path.insert(0, os.getcwd())
    import eager
    warnings.filterwarnings("ignore")
    logging.basicConfig(level="INFO", stream=sys.stdout, format="%(message)s")
    eager.log.setLevel(logging.INFO)
    eager.log.propagate = True
    for turn in range(3):
        with Pool(1) as p:
            p.map(eager.work, [turn])
    """
    assert run(library, method, body, tmp_path) == "item 0\nitem 1\nitem 2\n"


def test_handlers_that_are_added_in_workers(library: str, method: str, tmp_path: Path) -> None:
    """Others than those of the program: these go on."""
    body = """
    import logging

    class Writes(logging.Handler):
        def __init__(self, path):
            super().__init__()
            self.path = path

        def emit(self, record):
            with open(self.path, "a") as file:
                file.write(record.getMessage() + "\\n")

    logging.basicConfig(level="INFO", stream=sys.stdout, format="out %(message)s")
    logging.getLogger().addHandler(Writes("one.txt"))

    def add():
        errors = logging.StreamHandler(sys.stdout)
        errors.setLevel("ERROR")
        logging.getLogger().addHandler(errors)
        logging.getLogger().addHandler(Writes("two.txt"))

    def work(n):
        logging.info("info")
        logging.error("error")
        sys.stdout.flush()

    with Pool(1, add) as p:
        p.map(work, [0])
    print([open(name).read().split() for name in ("one.txt", "two.txt")])
    """
    lines = ["out info", "out error", "error", str([["info", "error"]] * 2)]
    assert run(library, method, body, tmp_path).splitlines() == lines


def test_a_log_file_that_is_a_stream(library: str, method: str, tmp_path: Path) -> None:
    body = """
    import logging
    logging.basicConfig(level="INFO", stream=open("x.log", "w"), format="%(message)s")
    logging.info("before")
    with Pool(1) as p:
        p.map(logging.info, ["task"])
    logging.info("after")
    print(open("x.log").read().split())
    """
    assert run(library, method, body, tmp_path) == "['before', 'task', 'after']\n"


def test_a_module_of_the_program_that_is_called_logging(
    library: str, method: str, tmp_path: Path
) -> None:
    (tmp_path / "logging.py").write_text("def info(text): print(text, flush=True)\n")
    body = """
    sys.path.insert(0, os.getcwd())
    import logging
    with Pool(1) as p:
        print(p.map(abs, [-1]))
    """
    if library == "multiprocessing":
        pytest.skip("reads `logging.handlers` itself, later")
    assert run(library, method, body, tmp_path) == "[1]\n"


def test_filters_of_a_context(
    library: str, method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Since Python 3.14 there may be some for a `with` block only; without the GIL there are."""
    monkeypatch.setenv("PYTHON_CONTEXT_AWARE_WARNINGS", "1")
    body = """
    import warnings

    def warned(_):
        try:
            warnings.warn("x")
        except UserWarning:
            return "raised"

    warnings.simplefilter("error")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Pool(1) as p:
            print(p.map(warned, [0]))
    with Pool(1) as p:
        print(p.map(warned, [0]))
    """
    assert run(library, method, body, tmp_path) == "[None]\n['raised']\n"


@pytest.mark.skipif(sys.version_info < (3, 15), reason="functions of 3.15")
def test_imports_that_are_put_off(library: str, method: str, tmp_path: Path) -> None:
    for name in ("optional", "eager"):
        text = f"import not_there_{name}\nimport json\ndef dump(x): return json.dumps(x)\n"
        (tmp_path / f"{name}.py").write_text(text)
    body = """
    sys.path.insert(0, os.getcwd())
    SPARED = {"eager"}

    def accepts(importing, imported, names=None):
        return importing not in SPARED

    sys.set_lazy_imports("all")
    sys.set_lazy_imports_filter(accepts)
    import optional

    def fail(_):
        try:
            import eager
            eager.dump(0)
        except ImportError as error:
            return str(error), sys.get_lazy_imports()

    with Pool(1) as p:
        print(p.map(optional.dump, [1]), p.map(fail, [0]))
    """
    expected = """['1'] [("No module named 'not_there_eager'", 'all')]\n"""
    assert run(library, method, body, tmp_path) == expected


def test_filters_in_pools_of_tasks(library: str, method: str, tmp_path: Path) -> None:
    body = """
    import warnings

    class Mild(UserWarning):
        pass

    warnings.simplefilter("error", Mild)

    def warned(_):
        try:
            warnings.warn("x", Mild)
        except Mild:
            return "raised"

    def nested(_):
        if "pool" not in multiprocessing.__name__:
            return [warned(0)]  # its workers may not have children
        with Pool(1) as p:
            return p.map(warned, [0])

    with Pool(1) as p:
        print(p.map(nested, [0]))
    """
    assert run(library, method, body, tmp_path) == "[['raised']]\n"


def test_reducers_that_the_program_has_registered(
    library: str, method: str, tmp_path: Path
) -> None:
    """For results that could not be sent otherwise, and for those that could."""
    (tmp_path / "shapes.py").write_text(
        "class Shape: pass\ndef reduce(shape): return str, ('a shape',)\n"
    )
    body = """
    import copyreg, functools, re, threading, xml.dom.minidom
    from multiprocessing.reduction import ForkingPickler
    import shapes

    TAG = "match"

    def build(text, tag):
        return tag, text

    class Number:
        def __init__(self, n): self.n = n
        def __reduce__(self): return Number, (self.n + 1,)

    class Failure(Exception):
        def __init__(self, text, code):
            super().__init__(text)
            self.code = code

    ForkingPickler.register(re.Match, lambda match: (build, (match.group(), TAG)))
    ForkingPickler.register(Number, lambda number: (Number, (number.n * 10,)))
    copyreg.pickle(Failure, lambda failure: (Failure, (str(failure), 7)))
    copyreg.pickle(threading.Event, lambda event: (str, ("an event",)))
    copyreg.pickle(shapes.Shape, shapes.reduce)
    reduce = functools.partial(lambda kind, text: (kind, (text.data,)), str)
    copyreg.pickle(xml.dom.minidom.Text, reduce)
    copyreg.pickle(complex, copyreg.dispatch_table[complex])

    def make(text):
        node = xml.dom.minidom.Document().createTextNode(text)
        number = Number(1)
        return re.match("a+", text), number, number, node, shapes.Shape(), threading.Event()

    def fail(_):
        raise Failure("no", 1)

    def nested(_):
        if "pool" not in multiprocessing.__name__:
            return [re.match("a", "a")]  # its workers may not have children
        with Pool(1) as p:
            return p.map(re.compile("a").match, ["a"])

    def plain(value):
        match, number, again, *rest = value
        return match, number.n, again is number, rest

    with Pool(1) as p:
        (value,) = p.map(make, ["aab"])
        print(plain(value))
        print(p.map(plain, [make("aab")]))
        try:
            p.map(fail, [0])
        except Failure as failure:
            print(failure, failure.code)
        print(p.map(nested, [0]))
    """
    seen = "(('match', 'aa'), 10, True, ['aab', 'a shape', 'an event'])"
    expected = f"{seen}\n[{seen}]\nno 7\n[[('match', 'a')]]\n"
    assert run(library, method, body, tmp_path) == expected


def test_adapters_and_dialects_that_the_program_has_registered(
    library: str, method: str, tmp_path: Path
) -> None:
    """Without them numbers are stored as bytes, and names are unknown."""
    body = """
    import csv, datetime, faulthandler, io, sqlite3, tracemalloc
    import numpy as np

    class Point:
        def __init__(self, x, y):
            self.x, self.y = x, y
        def __conform__(self, protocol):
            raise AssertionError("there is an adapter")

    DIVIDER = ";"

    def store(point):
        return f"{point.x}{DIVIDER}{point.y}"

    def read(text):
        return Point(*text.decode().split(DIVIDER))

    class Wide(csv.Dialect):
        delimiter, lineterminator, quoting, quotechar = "|", "!", csv.QUOTE_ALL, "'"

    sqlite3.register_adapter(np.int64, int)
    sqlite3.register_adapter(Point, store)
    sqlite3.register_adapter(datetime.date, lambda day: day.year)
    sqlite3.register_converter("point", read)
    csv.register_dialect("wide", Wide)
    csv.register_dialect("excel", delimiter=":")
    faulthandler.enable()
    tracemalloc.start(3)

    def look(_):
        db = sqlite3.connect(":memory:", detect_types=sqlite3.PARSE_DECLTYPES)
        db.execute("create table t (n, p point, d)")
        db.execute("insert into t values (?, ?, ?)", (np.int64(7), Point(1, 2), datetime.date.max))
        n, p, d = db.execute("select * from t").fetchone()
        db.close()
        text = io.StringIO()
        for name in ("wide", "excel", "unix"):
            csv.writer(text, name).writerow([1, 2])
        traces = tracemalloc.is_tracing(), tracemalloc.get_traceback_limit()
        rest = csv.field_size_limit(), faulthandler.is_enabled(), traces
        return n, p.x, p.y, d, text.getvalue(), *rest

    def nested(_):
        with Pool(1) as p:
            return p.map(look, [0])[0]

    with Pool(1) as p:
        print(p.map(look, [0])[0])
        if multiprocessing.__name__ == "pool":
            print(p.map(nested, [0]) == [look(0)])
    """
    seen = (7, "1", "2", 9999, "'1'|'2'!1:2\r\n\"1\",\"2\"\n", 131072, True, (True, 3))
    more = "True\n" if library == "pool" else ""
    assert run(library, method, body, tmp_path) == f"{seen}\n{more}"


def test_a_directory_that_is_gone(library: str, method: str, tmp_path: Path) -> None:
    """Relative names lead nowhere."""
    body = """
    def look(_):
        try:
            return os.getcwd()
        except FileNotFoundError:
            return os.path.exists("program.py"), os.path.exists("etc")

    with Pool(1) as p:
        print(p.map(look, [0]) == [os.getcwd()])
    os.mkdir("gone")
    os.chdir("gone")
    os.rmdir("../gone")
    with Pool(1) as p:
        print(p.map(look, [0]))
    """
    assert run(library, method, body, tmp_path) == "True\n[(False, False)]\n"


def test_ends_of_children_that_are_blocked(library: str, method: str, tmp_path: Path) -> None:
    """A pool ends all the same, and forks have what is blocked from the program."""
    body = """
    import signal
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD, signal.SIGUSR1])
    p = Pool(2)
    (blocked,) = p.starmap(signal.pthread_sigmask, [(signal.SIG_BLOCK, [])])
    p.close()
    p.join()
    print(*sorted(each.name for each in blocked))
    """
    expected = "SIGCHLD SIGUSR1\n" if method == "fork" else "\n"
    assert run(library, method, body, tmp_path) == expected


@pytest.mark.parametrize("name", ["SIGALRM", "SIGXCPU"])
@pytest.mark.parametrize("holds", [False, True])
def test_a_time_limit_by_a_signal(
    library: str, method: str, holds: bool, name: str, tmp_path: Path
) -> None:
    """Forks have the handlers of the program, which may raise in the midst of a task.

    One that holds objects may hold all that a program has, so that it is left to forks.
    """
    body = f"""
    import signal

    class Late(Exception):
        pass

    def late(signum, frame):
        raise Late

    def closure(lock):
        def late(signum, frame):
            if lock is not None:
                raise Late
        return late

    def limited(_):
        if signal.getsignal(signal.{name}) is signal.SIG_DFL:
            return "no handler"
        try:
            signal.raise_signal(signal.{name})  # as by `signal.alarm`
        except Late:
            return "raised"
        return "not called"

    def nested(_):
        with Pool(1) as p:
            return p.map(limited, [0])

    signal.signal(signal.{name}, closure(object()) if {holds} else late)
    with Pool(1) as p:
        print(p.map(limited, range(2), 1), p.apply(limited, (0,)))
    if {library == "pool"}:  # workers of the standard's may have no children
        with Pool(1) as p:
            print(p.map(nested, [0]))
    """
    word = "no handler" if holds and method != "fork" else "raised"
    expected = f"{[word] * 2} {word}\n"
    if library == "pool":
        expected += f"{[[word]]}\n"
    assert run(library, method, body, tmp_path) == expected


@pytest.mark.parametrize("thresholds", ["", "gc.set_threshold(5, 6, 7)"])
@pytest.mark.parametrize("switch", ["", "gc.disable()"])
def test_collector(library: str, method: str, thresholds: str, switch: str, tmp_path: Path) -> None:
    body = f"""
    import gc
    {switch}
    {thresholds}

    def look(_):
        return gc.isenabled(), gc.get_threshold()

    with Pool(1) as p:
        print(p.map(look, [0]) == [look(0)])
    """
    assert run(library, method, body, tmp_path) == "True\n"


def test_streams_that_write_elsewhere(library: str, method: str, tmp_path: Path) -> None:
    body = """
    import contextlib, io

    class Tee:
        def __init__(self, *streams):
            self.streams = streams

        def write(self, text):
            for stream in self.streams:
                stream.write(text)
                stream.flush()

        def flush(self):
            pass

    class Log:
        def __init__(self, path):
            self.terminal, self.file = sys.stdout, open(path, "w")

        def write(self, text):
            self.file.write(text.upper())

        def flush(self):
            self.file.flush()

    def work(number):
        sys.stdout.write(f"out {number}\\n")
        sys.stderr.write(f"err {number}\\n")

    def run():
        p = Pool(1)
        p.map(work, range(2), 1)
        p.close()  # the standard's workers write when they end, unless they are killed
        p.join()

    def content(path):
        return sorted(open(path).read().split("\\n"))

    with open("a", "w") as sys.stdout:
        sys.stderr = sys.stdout
        print("first")
        run()
        print("last")
    sys.stdout, sys.stderr = Tee(sys.__stdout__, open("b", "w")), sys.__stdout__
    run()
    sys.stdout = Log("c")
    run()
    sys.stdout = sys.__stdout__
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(open("d", "a")):
        run()
    with open(os.devnull, "w") as sys.stderr:
        run()
    sys.stderr = sys.__stderr__
    print(*map(content, "abcd"), sep="\\n")
    """
    out = run(library, method, body, tmp_path).splitlines()
    assert out[-4:] == [
        "['', 'err 0', 'err 1', 'first', 'last', 'out 0', 'out 1']",
        "['', 'out 0', 'out 1']",
        "['', 'OUT 0', 'OUT 1']",
        "['', 'err 0', 'err 1']",
    ]
    # To the terminal: both of the second run, errors of the third, output of the last.
    assert sorted(out[:-4]) == sorted([*["err 0", "err 1"] * 2, *["out 0", "out 1"] * 2])


@pytest.mark.parametrize("options", [["-u"], []], ids=str)
@pytest.mark.parametrize("again", ["", "line_buffering=True, errors='replace', encoding='latin-1'"])
def test_how_streams_write(
    library: str, method: str, options: list[str], again: str, tmp_path: Path
) -> None:
    """What a long task prints appears when it appears in a fork of the program."""
    (tmp_path / "inner.py").write_text(f"""
import sys, {library} as multiprocessing
if {method!r}:
    multiprocessing.set_start_method({method!r})

def manner(stream):
    return (
        stream.encoding, stream.errors, stream.line_buffering, stream.write_through,
        stream.mode, stream.name, stream.fileno(), type(stream.buffer).__name__,
    )

def look(_):
    return [manner(stream) for stream in (sys.stdout, sys.stderr, sys.__stdout__)]

def show(word):
    print(word, end=chr(10))
    with open("out", encoding="latin-1") as file:
        return file.read()

if __name__ == "__main__":
    sys.stdout.reconfigure({again})
    with multiprocessing.Pool(1) as p:
        there = p.map(look, [0])[0], p.map(show, ["\u20ac"] if {again!r} else ["word"])
    print(there[0] == look(0), there[1], file=open("answer", "w"))
""")
    body = f"""
    import subprocess
    del os.environ["PYTHONUNBUFFERED"]
    with open("out", "w") as out:
        subprocess.run([sys.executable, *{options!r}, "inner.py"], stdout=out, check=True)
    print(open("answer").read().strip())
    """
    at_once = ["?\n"] if again else ["word\n"] if options else [""]
    assert run(library, method, body, tmp_path) == f"True {at_once}\n"


def test_streams_that_stay_in_the_program(library: str, method: str, tmp_path: Path) -> None:
    if method == "fork":
        pytest.skip("a forked worker has all of them")
    body = """
    import io

    class Collecting(io.StringIO):
        pass

    class Wrapper(io.TextIOWrapper):
        pass

    class Slotted:
        __slots__ = ("__dict__", "stream")

        def write(self, text):
            self.stream.write(text)

        def flush(self):
            pass

    def work(number):
        print(number)
        return number

    def run(stream):
        sys.stdout = stream
        with Pool(1) as p:
            assert p.map(work, range(2), 1) == [0, 1]
        sys.stdout = sys.__stdout__

    run(Collecting())
    run(Wrapper(open("a", "wb")))
    slotted = Slotted()
    slotted.stream = sys.stdout
    run(slotted)
    rotated = open("b", "w")
    os.rename("b", "c")
    open("b", "w").close()
    run(rotated)
    both = open("d", "w+")
    both.write("12345")
    run(both)
    both.seek(0)
    both.write("xy")
    both.close()
    print(*(repr(open(name).read()) for name in "abd"))
    """
    out = run(library, method, body, tmp_path).splitlines()
    assert out == ["0", "1"] * 4 + ["'' '' 'xy345'"]
