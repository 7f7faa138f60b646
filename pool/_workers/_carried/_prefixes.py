"""Prefixes of XML namespaces that the program has registered."""

from __future__ import annotations

from ._setting import Setting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_FRESH = {
    "http://www.w3.org/XML/1998/namespace": "xml",
    "http://www.w3.org/1999/xhtml": "html",
    "http://www.w3.org/1999/02/22-rdf-syntax-ns#": "rdf",
    "http://schemas.xmlsoap.org/wsdl/": "wsdl",
    "http://www.w3.org/2001/XMLSchema": "xs",
    "http://www.w3.org/2001/XMLSchema-instance": "xsi",
    "http://purl.org/dc/elements/1.1/": "dc",
}


def _read(module: Any) -> list[tuple[str, str]] | None:
    present: dict[str, str] = module._namespace_map
    return [(prefix, uri) for uri, prefix in present.items() if _FRESH.get(uri) != prefix] or None


def _write(module: Any, value: list[tuple[str, str]]) -> None:
    for prefix, uri in value:
        module.register_namespace(prefix, uri)


SETTINGS = {"xml.etree.ElementTree": Setting("xml.etree.ElementTree", _read, _write)}
