"""Settings of Pillow: limits of images that it opens, formats that others have registered."""

from __future__ import annotations

from ._setting import Setting, packed, unpacked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: Variables that its documentation has programs set, as they are after the import.
_FRESH_IMAGE = {"MAX_IMAGE_PIXELS": 1024 * 1024 * 1024 // 4 // 3, "WARN_POSSIBLE_FORMATS": False}
_FRESH_FILE = {"LOAD_TRUNCATED_IMAGES": False, "MAXBLOCK": 65536}


def _changed(module: Any, fresh: dict[str, Any]) -> dict[str, Any]:
    present = {name: getattr(module, name, value) for name, value in fresh.items()}
    return {name: value for name, value in present.items() if value != fresh[name]}


def _read_image(module: Any) -> tuple[dict[str, Any], list[bytes]] | None:
    formats = [packed(_format(module, name)) for name in _registered(module)]
    value = _changed(module, _FRESH_IMAGE), [entry for entry in formats if entry]
    return value if any(value) else None


def _registered(module: Any) -> list[str]:
    """Return the names of formats that are not Pillow's own, in the order they are tried."""
    factories = {name: factory for name, (factory, _accept) in module.OPEN.items()}
    names = dict.fromkeys([*module.ID, *module.SAVE, *module.SAVE_ALL])
    return [
        name
        for name in names
        if not all(
            getattr(function, "__module__", "").partition(".")[0] == "PIL"
            for functions in (factories, module.SAVE, module.SAVE_ALL)
            if (function := functions.get(name)) is not None
        )
    ]


def _format(module: Any, name: str) -> tuple[Any, ...]:
    extensions = [extension for extension, of in module.EXTENSION.items() if of == name]
    opens = module.OPEN.get(name)
    return (
        name,
        opens,
        module.SAVE.get(name),
        module.SAVE_ALL.get(name),
        module.MIME.get(name),
        extensions,
    )


def _write_image(module: Any, value: tuple[dict[str, Any], list[bytes]]) -> None:
    variables, formats = value
    _write_variables(module, variables)
    for entry in formats:
        name, opens, save, save_all, kind, extensions = unpacked(entry)
        if opens is not None:
            module.register_open(name, *opens)
        if save is not None:
            module.register_save(name, save)
        if save_all is not None:
            module.register_save_all(name, save_all)
        if kind is not None:
            module.register_mime(name, kind)
        module.register_extensions(name, extensions)


def _read_file(module: Any) -> dict[str, Any] | None:
    return _changed(module, _FRESH_FILE) or None


def _write_variables(module: Any, value: dict[str, Any]) -> None:
    for name, setting in value.items():
        setattr(module, name, setting)


SETTINGS = {
    "PIL.Image": Setting("PIL.Image", _read_image, _write_image),
    "PIL.ImageFile": Setting("PIL.ImageFile", _read_file, _write_variables),
}
