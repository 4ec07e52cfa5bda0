"""A contract type for import-linter: a package may import only what the contract allows.

The contracts are in ``pyproject.toml``. A contract names a package, so it also covers files that
are added to the package later.
"""

import sys
from typing import Any

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, fields, output


class AllowedContract(Contract):
    """A package may import itself, the standard library and what the contract names.

    Options:
        packages: the packages or modules whose imports are checked, with everything in them.
        allowed: the packages of this project and of others that may be imported. A name allows
            everything in that package.
        except_modules: modules in ``packages`` that this contract does not check, because other
            contracts do.
    """

    type_name = "allowed"

    packages = fields.ListField(subfield=fields.StringField())
    allowed = fields.ListField(subfield=fields.StringField(), required=False)
    except_modules = fields.ListField(subfield=fields.StringField(), required=False)

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        """Check every direct import of the packages."""
        packages: Any = self.packages
        allowed = [*(self.allowed or []), *packages]
        skipped = list(self.except_modules or [])
        missing = [name for name in [*packages, *skipped] if name not in graph.modules]
        refused = sorted(
            (importer, imported)
            for importer in graph.modules
            if _is_in(importer, packages) and not _is_in(importer, skipped)
            for imported in graph.find_modules_directly_imported_by(importer)
            if not _is_in(imported, allowed)
            and imported.partition(".")[0] not in sys.stdlib_module_names
        )
        return ContractCheck(
            kept=not refused and not missing, metadata={"refused": refused, "missing": missing}
        )

    def render_broken_contract(self, check: ContractCheck) -> None:
        """Print each import that is not allowed."""
        for importer, imported in check.metadata["refused"]:
            output.print_error(f"{importer} may not import {imported}", bold=False)
        for name in check.metadata["missing"]:
            output.print_error(f"there is no module {name}", bold=False)


def _is_in(module: str, packages: list[str]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)
