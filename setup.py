"""Packaging: everything comes from settings.ini."""
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

here = Path(__file__).parent
ini = ConfigParser(delimiters=['='])
ini.read(here/'settings.ini', encoding='utf-8')
cfg = ini['DEFAULT']
onnx = cfg['onnx_requirements'].split()
pythons = ['3.11', '3.12', '3.13']

setup(
    name=cfg['lib_name'],
    version=cfg['version'],
    description=cfg['description'],
    long_description=(here/'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    author=cfg['author'],
    author_email=cfg['author_email'],
    url=cfg['git_url'],
    license=cfg['license'],
    classifiers=[
        'Development Status :: 3 - Alpha',
        'Intended Audience :: Developers',
        'Natural Language :: English',
        *(f'Programming Language :: Python :: {version}' for version in pythons),
    ],
    keywords=cfg['keywords'].split(),
    python_requires=f'>={cfg["min_python"]}',
    packages=find_packages(include=[f'{cfg["lib_name"]}*']),
    package_data={cfg['lib_name']: ['*.pyi']},
    install_requires=cfg['requirements'].split(),
    extras_require={'onnx': onnx, 'dev': cfg['dev_requirements'].split() + onnx},
    entry_points={'console_scripts': cfg['console_scripts'].splitlines()},
    zip_safe=False,
)
