"""Settings of gettext: the domain, where its catalogs are, and what was installed as ``_``."""

from __future__ import annotations

import builtins

from ._setting import Setting, packed, unpacked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: What `gettext.install` can install besides ``_``.
_NAMES = ("gettext", "ngettext", "pgettext", "npgettext")


def _read(module: Any) -> tuple[str, dict[str, str], bytes | None, list[str]] | None:
    domain, folders = module.textdomain(), dict(module._localedirs)
    # Looked up there, since an interactive session keeps the last value that it has shown as ``_``.
    translations = getattr(vars(builtins).get("_"), "__self__", None)
    installed = isinstance(translations, module.NullTranslations)
    if domain == "messages" and not folders and not installed:
        return None
    if not installed:
        return domain, folders, None, []
    names = [
        name
        for name in _NAMES
        if getattr(vars(builtins).get(name), "__self__", None) is translations
    ]
    return domain, folders, packed(translations), names


def _write(module: Any, value: tuple[str, dict[str, str], bytes | None, list[str]]) -> None:
    domain, folders, translations, names = value
    module.textdomain(domain)
    for name, folder in folders.items():
        module.bindtextdomain(name, folder)
    if translations is not None:
        unpacked(translations).install(names)


SETTINGS = {"gettext": Setting("gettext", _read, _write)}
