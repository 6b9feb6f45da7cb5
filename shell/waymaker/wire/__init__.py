"""The wire: conversion between the contract's messages and plain values, once for client and server."""
