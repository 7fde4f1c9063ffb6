"""Proof that the device side installs and runs on 64-bit Arm, without such a machine.

`python -m tools.aarch64.wheels` resolves the dependencies of both JetPacks; `python -m tools.aarch64` runs the product
under qemu's user-mode emulation.
"""
