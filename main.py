if __name__ == "__main__":
    from ui.cli import main

    main()
